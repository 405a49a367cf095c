// SPDX-License-Identifier: Apache-2.0

// Package tailor cuts a kernel's type information (BTF) down to what the CO-RE
// relocations of given eBPF objects can match: a few kilobytes of several
// megabytes. Relocating any of the objects' programs against the result gives
// the same instructions as relocating it against the whole, also where a
// relocation fails.
//
// The objects' own types are read through cilium/ebpf. The kernel's types are
// not: of a hundred thousand types a few dozen matter, so they are found and
// copied in their raw form, without decoding the rest.
//
// What no relocation looks at is normalised (typedef chains, pointees, sizes of
// structs that are only walked through), so that kernels which differ only there
// give the same bytes.
//
// It knows nothing of where BTF comes from (pkg/btf/hub) and where the result is
// kept (pkg/btf/bundle). Relocations that ask for the number of a kernel type
// (bpf_core_type_id_kernel) can't be kept, since types are renumbered: see
// Needs.TypeIDs.
package tailor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Object is an eBPF object file as clang makes it, with BTF.
type Object struct {
	Name    string // for messages
	Content []byte // ELF
}

// Digest identifies what an object asks of a kernel's types, whatever its code:
// two objects with the same digest are served by the same tailored BTF. It is
// the beginning of a SHA-256 over the sorted relocations.
type Digest [16]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ObjectNeeds says what one object asks.
type ObjectNeeds struct {
	Name        string
	Digest      Digest
	Relocations int // different ones
}

// Needs are the relocations of a set of objects: their union. It is immutable
// and safe for concurrent use.
type Needs struct {
	objects []ObjectNeeds
	digest  Digest
	// queries by the essential name of the type they look for, in the order of
	// names; the queries of a name in the order of their keys.
	roots   []root
	byName  map[string]int // index into roots
	filter  nameFilter
	typeIDs []string
}

// root are all queries for one type name.
type root struct {
	name    string
	queries []*query
}

// Parse reads the relocations of objects. An object without any is fine.
func Parse(objects ...Object) (*Needs, error) {
	n := &Needs{byName: make(map[string]int)}
	union := make(map[string]*query)
	for _, object := range objects {
		queries, err := parseObject(object.Content)
		if err != nil {
			return nil, fmt.Errorf("object %.200q: %w", object.Name, err)
		}
		n.objects = append(n.objects, ObjectNeeds{Name: object.Name, Digest: digest(queries), Relocations: len(queries)})
		maps.Copy(union, queries)
	}
	n.digest = digest(union)
	for _, key := range slices.Sorted(maps.Keys(union)) {
		n.add(union[key])
	}
	return n, nil
}

func (n *Needs) add(q *query) {
	if q.kind == typeIDTarget {
		n.typeIDs = append(n.typeIDs, q.key)
	}
	i, ok := n.byName[q.root]
	if !ok {
		i = len(n.roots)
		n.byName[q.root] = i
		n.roots = append(n.roots, root{name: q.root})
		n.filter.add(q.root)
	}
	n.roots[i].queries = append(n.roots[i].queries, q)
}

func digest(queries map[string]*query) Digest {
	hash := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(queries)) {
		hash.Write([]byte(key))
		hash.Write([]byte{0})
	}
	return Digest(hash.Sum(nil))
}

// Digest is that of all objects together.
func (n *Needs) Digest() Digest { return n.digest }

// Objects says what each object asks, in the order they were given.
func (n *Needs) Objects() []ObjectNeeds { return slices.Clone(n.objects) }

// TypeIDs lists the relocations for the number of a kernel type, which change
// their meaning in tailored BTF.
func (n *Needs) TypeIDs() []string { return slices.Clone(n.typeIDs) }

// Result is a kernel's tailored BTF and what it lacks.
type Result struct {
	// BTF is raw BTF in the byte order of the kernel's.
	BTF []byte
	// Unmatched are the types that the objects ask for and the kernel hasn't by
	// any name, sorted. They may be of a module, whose types (split BTF) are the
	// node's to add, or of another kernel version.
	Unmatched []string
}

// Tailor returns the part of a kernel's BTF that the objects need, as raw BTF of
// the same byte order. Input is raw BTF, not split. The same input gives the
// same bytes. Memory is about twice the size of the input.
func (n *Needs) Tailor(full []byte) ([]byte, error) {
	result, err := n.Cut(full)
	return result.BTF, err
}

// Cut is Tailor, and tells what found no match.
func (n *Needs) Cut(full []byte) (Result, error) {
	t, err := parseTarget(full)
	if err != nil {
		return Result{}, err
	}
	defer t.release()
	found, err := n.find(t)
	if err != nil {
		return Result{}, err
	}
	var result Result
	m := newMarks(t)
	for i, candidates := range found {
		if len(candidates) == 0 {
			result.Unmatched = append(result.Unmatched, n.roots[i].name)
		}
		for _, id := range candidates {
			if err := m.candidate(id, n.roots[i].queries); err != nil {
				return Result{}, err
			}
		}
	}
	slices.Sort(result.Unmatched)
	result.BTF = m.emit()
	return result, nil
}

// find returns the types whose essential name is asked for, by index into roots.
func (n *Needs) find(t *target) ([][]uint32, error) {
	found := make([][]uint32, len(n.roots))
	for id := uint32(1); id < t.count(); id++ {
		name := t.word(id, 0)
		if name == 0 {
			continue
		}
		if name >= uint32(len(t.strings)) {
			return nil, fmt.Errorf("type %d: name at %d is beyond the strings, which have %d bytes", id, name, len(t.strings))
		}
		if !n.filter.mayHave(t.strings[name:]) {
			continue
		}
		// A tag's name is no type's name.
		if k := t.kind(id); k == kindTypeTag || k == kindDeclTag {
			continue
		}
		if i, ok := n.byName[essential(t.name(id))]; ok {
			found[i] = append(found[i], id)
		}
	}
	return found, nil
}

// essential cuts the flavour from a name: all from the last triple underscore
// that isn't at its beginning.
func essential(name string) string {
	if i := strings.LastIndex(name, "___"); i > 0 {
		return name[:i]
	}
	return name
}

// nameFilter tells quickly that a name isn't asked for, by its first bytes.
type nameFilter [1 << 12 / 8]byte

func (f *nameFilter) add(name string) {
	// A flavoured name of the kernel's begins like the essential name, goes on
	// with an underscore, and must pass as well.
	for _, s := range []string{name + "\x00\x00\x00\x00", name + "____"} {
		h := prefixHash([]byte(s))
		f[h/8] |= 1 << (h % 8)
	}
}

// mayHave gets a name and whatever stands behind it.
func (f *nameFilter) mayHave(rest []byte) bool {
	if len(rest) < 4 {
		return true // at the end of the strings: let the full comparison decide
	}
	h := prefixHash(rest)
	return f[h/8]&(1<<(h%8)) != 0
}

// prefixHash looks at up to four bytes, not beyond the name's end.
func prefixHash(b []byte) uint32 {
	var v uint32
	for i := range 4 {
		if b[i] == 0 {
			break
		}
		v |= uint32(b[i]) << (8 * i)
	}
	return v * 2654435761 >> 20
}
