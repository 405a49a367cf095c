// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"fmt"
	"slices"
)

// Parts of a type that can be marked, besides members, values and parameters,
// which are marked by their index.
const (
	itself       = -1
	pointee      = -2 // of a pointer; of a function what it returns
	arrayElement = -3
	arrayIndex   = -4
	wholeSize    = -5 // of a struct or union
)

// marks are the types and parts of types that are kept, in the order in which
// queries came upon them. That order depends on the objects more than on the
// kernel, which makes the results for similar kernels similar.
type marks struct {
	t     *target
	order []uint32
	kept  map[uint32]*mark

	// The marks of one candidate are collected here until it is clear whether
	// the candidate is kept.
	tried []attempt
	sure  bool // the candidate is kept whatever the queries say
}

// mark is what is kept of one type.
type mark struct {
	parts []int // sorted
}

type attempt struct {
	id   uint32
	part int
}

func newMarks(t *target) *marks { return &marks{t: t, kept: make(map[uint32]*mark)} }

func (m *marks) begin() { m.tried, m.sure = m.tried[:0], false }

func (m *marks) commit() {
	for _, a := range m.tried {
		kept, ok := m.kept[a.id]
		if !ok {
			kept = new(mark)
			m.kept[a.id] = kept
			m.order = append(m.order, a.id)
		}
		if at, ok := slices.BinarySearch(kept.parts, a.part); !ok && a.part != itself {
			kept.parts = slices.Insert(kept.parts, at, a.part)
		}
	}
}

func (k *mark) has(part int) bool {
	_, ok := slices.BinarySearch(k.parts, part)
	return ok
}

// indices are the marked members, values or parameters.
func (k *mark) indices() []int {
	at, _ := slices.BinarySearch(k.parts, 0)
	return k.parts[at:]
}

// touch marks a type, without any of its parts.
func (m *marks) touch(id uint32) { m.part(id, itself) }

func (m *marks) touchUnderlying(id uint32) error {
	id, err := m.t.underlying(id)
	if err != nil {
		return err
	}
	m.touch(id)
	return nil
}

func (m *marks) part(id uint32, part int) {
	if id != 0 {
		m.tried = append(m.tried, attempt{id, part})
	}
}

// member marks a member and its type.
func (m *marks) member(owner uint32, index int) error {
	_, typ, _ := m.t.member(owner, index)
	m.part(owner, index)
	return m.touchUnderlying(typ)
}

// size marks what the size of a type depends on.
func (m *marks) size(id uint32) error {
	for range maxChain {
		under, err := m.t.underlying(id)
		if err != nil {
			return err
		}
		m.touch(under)
		switch m.t.kind(under) {
		case kindArray:
			m.part(under, arrayElement)
			id = m.t.extra(under)[0]
			continue
		case kindStruct, kindUnion:
			m.part(under, wholeSize)
		case kindInt, kindPointer, kindEnum, kindEnum64, kindFloat:
		default:
			m.sure = true // has no size: the loader gives up here
		}
		return nil
	}
	return fmt.Errorf("type %d: arrays are nested more than %d deep", id, maxChain)
}
