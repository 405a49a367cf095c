// SPDX-License-Identifier: Apache-2.0

package tailor

import "github.com/cilium/ebpf/btf"

// compatible compares as coreAreTypesCompatible in cilium/ebpf does: kinds,
// through pointers, arrays and functions, but not the members of structs. Depth
// is that of the local type, which spell has bounded.
func (m *marks) compatible(local btf.Type, id uint32, seen pairs) error {
	local = btf.UnderlyingType(local)
	id, err := m.t.underlying(id)
	if err != nil {
		return err
	}
	m.touch(id)
	if kindOf(local) != m.t.looseKind(id) {
		return errNoMatch
	}
	if again, err := seen.enter(local, id); again || err != nil {
		return err
	}
	switch local := local.(type) {
	case *btf.Pointer:
		m.part(id, pointee)
		return m.compatible(local.Target, m.t.word(id, 2), seen)
	case *btf.Array:
		m.part(id, arrayIndex)
		m.part(id, arrayElement)
		array := m.t.extra(id)
		if err := m.compatible(local.Index, array[1], seen); err != nil {
			return err
		}
		return m.compatible(local.Type, array[0], seen)
	case *btf.FuncProto:
		return m.proto(local, id, seen, m.compatible)
	}
	return nil
}

// matches compares as coreTypesMatch does: names, sizes of integers and enums,
// and local members with those of the same name.
func (m *marks) matches(local btf.Type, id uint32, seen pairs) error {
	local = btf.UnderlyingType(local)
	id, err := m.t.underlying(id)
	if err != nil {
		return err
	}
	m.touch(id)
	a, b := essential(local.TypeName()), essential(m.t.name(id))
	if a != b && a != "" && b != "" || kindOf(local) != m.t.looseKind(id) {
		return errNoMatch
	}
	if again, err := seen.enter(local, id); again || err != nil {
		return err
	}
	switch local := local.(type) {
	case *btf.Struct, *btf.Union:
		return m.membersMatch(membersOf(local), id, seen)
	case *btf.Enum:
		return m.enumsMatch(local, id)
	case *btf.Int:
		signed := m.t.extra(id)[0]>>24&0xf == uint32(btf.Signed)
		if local.Size != m.t.word(id, 2) || (local.Encoding == btf.Signed) != signed {
			return errNoMatch
		}
	case *btf.Fwd:
		if (local.Kind == btf.FwdUnion) != m.t.flag(id) {
			return errNoMatch
		}
	case *btf.Pointer:
		return m.pointersMatch(local, id, seen)
	case *btf.Array:
		m.part(id, arrayElement)
		array := m.t.extra(id)
		if local.Nelems != array[2] {
			m.touchUnderlying(array[0])
			return errNoMatch
		}
		return m.matches(local.Type, array[0], seen)
	case *btf.FuncProto:
		return m.proto(local, id, seen, m.matches)
	}
	return nil
}

func (m *marks) pointersMatch(local *btf.Pointer, id uint32, seen pairs) error {
	m.part(id, pointee)
	to, err := m.t.underlying(m.t.word(id, 2))
	if err != nil {
		return err
	}
	m.touch(to)
	// A struct behind a pointer may be known by its declaration only.
	switch there := btf.UnderlyingType(local.Target).(type) {
	case *btf.Fwd:
		if there.Kind == btf.FwdStruct && m.t.kind(to) == kindStruct || there.Kind == btf.FwdUnion && m.t.kind(to) == kindUnion {
			return nil
		}
	case *btf.Struct:
		if m.t.kind(to) == kindFwd && !m.t.flag(to) {
			return nil
		}
	case *btf.Union:
		if m.t.kind(to) == kindFwd && m.t.flag(to) {
			return nil
		}
	}
	return m.matches(local.Target, to, seen)
}

func (m *marks) membersMatch(local []btf.Member, id uint32, seen pairs) error {
	// All of the same names, because which of two counts is the loader's choice;
	// and as many as there are in the local type, because it compares numbers.
	total := m.t.members(id)
	kept := 0
	byName := make(map[string]int)
	for _, member := range local {
		byName[member.Name] = -1
	}
	for i := range total {
		name, _, _ := m.t.member(id, i)
		if _, ok := byName[m.t.str(name)]; ok {
			byName[m.t.str(name)] = i
			kept++
			if err := m.member(id, i); err != nil {
				return err
			}
		}
	}
	for i := 0; i < total && kept < len(local); i++ {
		name, _, _ := m.t.member(id, i)
		if _, ok := byName[m.t.str(name)]; !ok {
			kept++
			if err := m.member(id, i); err != nil {
				return err
			}
		}
	}
	if len(local) > total {
		return errNoMatch
	}
	for _, member := range local {
		i := byName[member.Name]
		if i < 0 {
			return errNoMatch
		}
		_, typ, _ := m.t.member(id, i)
		if err := m.matches(member.Type, typ, seen); err != nil {
			return err
		}
	}
	return nil
}

func (m *marks) enumsMatch(local *btf.Enum, id uint32) error {
	total := m.t.values(id)
	want := make(map[string]bool, len(local.Values))
	for _, value := range local.Values {
		want[essential(value.Name)] = false
	}
	var others []int
	for i := range total {
		name := essential(m.t.str(m.t.value(id, i)))
		if found, ok := want[name]; !ok || found {
			others = append(others, i)
			continue
		}
		want[name] = true
		m.part(id, i)
	}
	// As many as there are in the local type, because the loader compares numbers.
	for _, i := range others[:min(len(others), len(local.Values))] {
		m.part(id, i)
	}
	if local.Size != m.t.word(id, 2) || len(local.Values) > total {
		return errNoMatch
	}
	for _, found := range want {
		if !found {
			return errNoMatch
		}
	}
	return nil
}

func (m *marks) proto(local *btf.FuncProto, id uint32, seen pairs, compare func(btf.Type, uint32, pairs) error) error {
	params := m.t.extra(id)
	m.part(id, pointee)
	for i := range len(params) / 2 {
		m.part(id, i)
		if err := m.touchUnderlying(params[2*i+1]); err != nil {
			return err
		}
	}
	if err := m.touchUnderlying(m.t.word(id, 2)); err != nil {
		return err
	}
	if len(local.Params) != len(params)/2 {
		return errNoMatch
	}
	if err := compare(local.Return, m.t.word(id, 2), seen); err != nil {
		return err
	}
	for i, param := range local.Params {
		if err := compare(param.Type, params[2*i+1], seen); err != nil {
			return err
		}
	}
	return nil
}

// kindOf is the kind of an underlying local type; enums of both widths are one.
func kindOf(typ btf.Type) kind {
	switch typ.(type) {
	case *btf.Int:
		return kindInt
	case *btf.Pointer:
		return kindPointer
	case *btf.Array:
		return kindArray
	case *btf.Struct:
		return kindStruct
	case *btf.Union:
		return kindUnion
	case *btf.Enum:
		return kindEnum
	case *btf.Fwd:
		return kindFwd
	case *btf.FuncProto:
		return kindFuncProto
	case *btf.Float:
		return kindFloat
	}
	return kindVoid
}

func (t *target) looseKind(id uint32) kind {
	if t.isEnum(id) {
		return kindEnum
	}
	return t.kind(id)
}
