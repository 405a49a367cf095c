// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// errNoMatch says that a relocation can't be resolved by a candidate. It is an
// ordinary outcome: the loader then poisons the instruction, or writes that
// there is no such field.
var errNoMatch = errors.New("no match")

// Searching a member, the loader gives up after this many structs
// (maxResolveDepth in cilium/ebpf).
const maxVisited = 32

// candidate marks what queries look at in a type of the right name, unless none
// of them finds what it looks for: such a candidate decides nothing.
func (m *marks) candidate(id uint32, queries []*query) error {
	m.begin()
	hit := false
	for _, q := range queries {
		m.touch(id)
		switch err := m.run(q, id); {
		case err == nil:
			hit = true
		case !errors.Is(err, errNoMatch):
			return fmt.Errorf("%s in type %d: %w", q.key, id, err)
		}
	}
	if hit || m.sure {
		m.commit()
	}
	return nil
}

func (m *marks) run(q *query, id uint32) error {
	switch q.kind {
	case enumExists, enumValue:
		return m.enumValue(q.value, id)
	case typeMatches:
		return m.matches(q.typ, id, newPairs())
	case typeIDTarget, typeExists:
		return m.compatible(q.typ, id, newPairs())
	case typeSize:
		if err := m.compatible(q.typ, id, newPairs()); err != nil {
			return err
		}
		return m.size(id)
	default:
		return m.field(q, id)
	}
}

func (m *marks) enumValue(name string, id uint32) error {
	id, err := m.t.underlying(id)
	if err != nil {
		return err
	}
	m.touch(id)
	if !m.t.isEnum(id) {
		return errNoMatch
	}
	for i := range m.t.values(id) {
		if essential(m.t.str(m.t.value(id, i))) == name {
			m.part(id, i)
			return nil
		}
	}
	return errNoMatch
}

// field follows a path, as coreFindField in cilium/ebpf does.
func (m *marks) field(q *query, id uint32) error {
	typ, err := m.t.underlying(id)
	if err != nil {
		return err
	}
	m.touch(typ)
	if m.t.kind(typ) == kindFwd || !m.alike(q.rootShape, typ) {
		return errNoMatch
	}
	if q.element > 0 {
		if err := m.size(typ); err != nil {
			return err
		}
	}
	for _, s := range q.steps {
		var bits bool
		if s.member != "" {
			typ, bits, err = m.memberStep(typ, s)
		} else {
			typ, err = m.elementStep(typ, s)
		}
		if err != nil {
			return err
		}
		m.touch(typ)
		if s.bitfield || bits {
			// The loader aligns it before it compares, and goes no further.
			return m.size(typ)
		}
		if !m.alike(s.shape, typ) {
			return errNoMatch
		}
	}
	if q.kind == fieldExists {
		return nil
	}
	return m.size(typ)
}

func (m *marks) alike(want shape, typ uint32) bool {
	got := m.t.shape(typ)
	if want.class != got.class {
		return false
	}
	return want.name == got.name || want.name == "" || got.name == ""
}

// memberStep returns the underlying type of a member, and whether it is a bitfield.
func (m *marks) memberStep(typ uint32, s step) (uint32, bool, error) {
	if m.t.shape(typ).class != classComposite {
		return 0, false, errNoMatch
	}
	path, err := m.t.findMember(typ, s.member)
	if err != nil {
		return 0, false, err
	}
	if len(path.visited) >= maxVisited-1 || path.odd {
		// The loader gives up on such a type, and must go on doing so.
		m.sure = true
		for _, p := range path.visited {
			if err := m.member(p.owner, p.index); err != nil {
				return 0, false, err
			}
		}
	}
	if path.found == nil {
		return 0, false, errNoMatch
	}
	for _, p := range path.found {
		if err := m.member(p.owner, p.index); err != nil {
			return 0, false, err
		}
	}
	last := path.found[len(path.found)-1]
	_, member, offset := m.t.member(last.owner, last.index)
	next, err := m.t.underlying(member)
	if err != nil {
		return 0, false, err
	}
	if end := m.t.members(last.owner) - 1; last.index < end && m.t.kind(next) == kindArray && m.t.extra(next)[2] == 0 {
		// An array without length is taken as flexible only at the end.
		if err := m.member(last.owner, end); err != nil {
			return 0, false, err
		}
	}
	return next, m.t.bitfieldSize(last.owner, offset) > 0, nil
}

func (m *marks) elementStep(typ uint32, s step) (uint32, error) {
	if m.t.kind(typ) != kindArray {
		return 0, errNoMatch
	}
	array := m.t.extra(typ)
	element, length := array[0], array[2]
	m.part(typ, arrayElement)
	if err := m.touchUnderlying(element); err != nil {
		return 0, err
	}
	if length == 0 || s.flexible {
		m.sure = true // where it isn't the last member, the loader gives up
	} else if uint64(s.index) >= uint64(length) {
		return 0, errNoMatch
	}
	if s.index > 0 {
		if err := m.size(element); err != nil {
			return 0, err
		}
	}
	return m.t.underlying(element)
}

// place is a member of a struct or union.
type place struct {
	owner uint32
	index int
}

// search is how a member was found through anonymous members, and which of those
// were looked into on the way.
type search struct {
	found, visited []place
	odd            bool // one without a name was no struct
}

// findMember looks for a member level by level, as coreFindMember does.
func (t *target) findMember(typ uint32, name string) (search, error) {
	type level struct {
		typ  uint32
		path []place
	}
	var s search
	queue := []level{{typ: typ}}
	seen := make(map[uint32]bool)
	for ; len(queue) > 0 && len(seen) <= maxVisited; queue = queue[1:] {
		at := queue[0]
		if seen[at.typ] {
			continue
		}
		seen[at.typ] = true
		for i := range t.members(at.typ) {
			nameOffset, member, _ := t.member(at.typ, i)
			path := append(at.path[:len(at.path):len(at.path)], place{at.typ, i})
			if t.is(nameOffset, name) {
				s.found = path
				return s, nil
			}
			if !t.is(nameOffset, "") {
				continue
			}
			inner, err := t.underlying(member)
			if err != nil {
				return search{}, err
			}
			s.visited = append(s.visited, place{at.typ, i})
			if t.shape(inner).class != classComposite {
				s.odd = true
				continue
			}
			queue = append(queue, level{inner, path})
		}
	}
	return s, nil
}

// pairs are local and kernel types that are being compared, which keeps types
// that contain themselves from being compared for ever.
type pairs map[pair]bool

type pair struct {
	local  btf.Type
	target uint32
}

func newPairs() pairs { return make(pairs) }

func (p pairs) enter(local btf.Type, target uint32) (again bool, err error) {
	key := pair{local, target}
	if p[key] {
		return true, nil
	}
	if len(p) >= 1<<16 {
		return false, errors.New("types are too large to be compared")
	}
	p[key] = true
	return false, nil
}
