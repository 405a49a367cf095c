// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Bounds of a local type that is compared as a whole: how deep and how much.
const (
	maxDepth   = 64
	maxSpelled = 1 << 16 // bytes
)

// speller writes a local type so that types which compare alike are written
// alike.
type speller struct {
	out     *strings.Builder
	members bool // write what is inside structs, which only type_matches looks at
	seen    map[btf.Type]int
}

func spell(typ btf.Type, members bool, out *strings.Builder) error {
	out.WriteByte(' ')
	return (&speller{out, members, make(map[btf.Type]int)}).typ(typ, 0)
}

func (s *speller) typ(typ btf.Type, depth int) error {
	if depth > maxDepth || s.out.Len() > maxSpelled {
		return fmt.Errorf("type is nested more than %d deep or too large", maxDepth)
	}
	typ = btf.UnderlyingType(typ)
	name := ""
	if s.members {
		name = essential(typ.TypeName())
	}
	switch t := typ.(type) {
	case *btf.Void:
		s.out.WriteString("void")
		return nil
	case *btf.Int:
		fmt.Fprintf(s.out, "int %s", name)
		if s.members {
			fmt.Fprintf(s.out, " %d %d", t.Size, t.Encoding)
		}
		return nil
	case *btf.Float:
		fmt.Fprintf(s.out, "float %s %d", name, t.Size)
		return nil
	case *btf.Fwd:
		fmt.Fprintf(s.out, "fwd %s %s", t.Kind, name)
		return nil
	case *btf.Enum:
		s.enum(t, name)
		return nil
	}
	// From here on types can contain themselves.
	if n, ok := s.seen[typ]; ok {
		fmt.Fprintf(s.out, "#%d", n)
		return nil
	}
	s.seen[typ] = len(s.seen)
	switch t := typ.(type) {
	case *btf.Struct:
		return s.composite("struct", name, t.Members, depth)
	case *btf.Union:
		return s.composite("union", name, t.Members, depth)
	case *btf.Pointer:
		s.out.WriteByte('*')
		return s.typ(t.Target, depth+1)
	case *btf.Array:
		fmt.Fprintf(s.out, "[%d ", t.Nelems)
		if err := s.typ(t.Index, depth+1); err != nil {
			return err
		}
		s.out.WriteByte(']')
		return s.typ(t.Type, depth+1)
	case *btf.FuncProto:
		return s.proto(t, depth)
	}
	return fmt.Errorf("%s can't be compared", typ)
}

func (s *speller) enum(t *btf.Enum, name string) {
	fmt.Fprintf(s.out, "enum %s", name)
	if !s.members {
		return
	}
	fmt.Fprintf(s.out, " %d{", t.Size)
	for _, value := range t.Values {
		s.out.WriteString(essential(value.Name) + ",")
	}
	s.out.WriteByte('}')
}

func (s *speller) composite(kind, name string, members []btf.Member, depth int) error {
	s.out.WriteString(kind + " " + name)
	if !s.members {
		return nil
	}
	s.out.WriteByte('{')
	for _, member := range members {
		s.out.WriteString(member.Name + ":")
		if err := s.typ(member.Type, depth+1); err != nil {
			return err
		}
		s.out.WriteByte(';')
	}
	s.out.WriteByte('}')
	return nil
}

func (s *speller) proto(t *btf.FuncProto, depth int) error {
	s.out.WriteByte('(')
	for _, param := range t.Params {
		if err := s.typ(param.Type, depth+1); err != nil {
			return err
		}
		s.out.WriteByte(',')
	}
	s.out.WriteByte(')')
	return s.typ(t.Return, depth+1)
}
