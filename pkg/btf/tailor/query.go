// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// query is what one relocation asks of a kernel's types, in a form that doesn't
// depend on the numbering of the object's types. Its key spells it out, so equal
// queries of different objects have equal keys.
type query struct {
	key  string
	kind reloKind
	root string // essential name of the type to look for

	// Of field relocations: what the root must be, by how many elements the
	// pointer to it is moved first, and the way down.
	rootShape shape
	element   int
	steps     []step

	value string   // of enum relocations: essential name of the value
	typ   btf.Type // of type relocations: the local type
}

// step goes from a type to one of its parts.
type step struct {
	member string // name of the member; empty for an array
	index  int    // of the array's element
	// bitfield tells that the local member is one, flexible that the local array
	// has no length.
	bitfield, flexible bool
	shape              shape // of the part, in the object
}

// shape is what decides whether two types are compatible as fields.
type shape struct {
	class class
	name  string // essential name, where it matters: enums and forward declarations
}

type class byte

const (
	classOther class = iota // can't be relocated
	classComposite
	classArray
	classPointer
	classFloat
	classInt
	classEnum
	classFwd
)

var classNames = [...]string{"other", "composite", "array", "pointer", "float", "int", "enum", "fwd"}

func newQuery(kind reloKind, typ btf.Type, accessor []int) (*query, error) {
	q := &query{kind: kind, root: essential(typ.TypeName())}
	if q.root == "" {
		return nil, errors.New("the type has no name")
	}
	var key strings.Builder
	fmt.Fprintf(&key, "%s %s", kind, q.root)
	var err error
	switch kind {
	case enumExists, enumValue:
		err = q.compileEnum(typ, accessor, &key)
	case typeIDTarget, typeExists, typeSize, typeMatches:
		if len(accessor) != 1 || accessor[0] != 0 {
			return nil, errors.New("want the path 0")
		}
		q.typ = typ
		err = spell(typ, kind == typeMatches, &key)
	default:
		err = q.compileField(typ, accessor, &key)
	}
	q.key = key.String()
	return q, err
}

func (q *query) compileEnum(typ btf.Type, accessor []int, key *strings.Builder) error {
	enum, ok := btf.As[*btf.Enum](typ)
	if !ok || len(accessor) != 1 || accessor[0] >= len(enum.Values) {
		return errors.New("no such value of an enum")
	}
	q.value = essential(enum.Values[accessor[0]].Name)
	key.WriteString(" " + q.value)
	return nil
}

// compileField follows the path through the object's own types.
func (q *query) compileField(typ btf.Type, accessor []int, key *strings.Builder) error {
	q.rootShape, q.element = shapeOf(typ), accessor[0]
	if q.rootShape.class == classOther {
		return errors.New("the type has no fields")
	}
	fmt.Fprintf(key, " %s", q.rootShape)
	if q.element > 0 {
		fmt.Fprintf(key, "+%d", q.element)
	}
	for _, index := range accessor[1:] {
		if n := len(q.steps); n > 0 && q.steps[n-1].bitfield {
			return errors.New("leads through a bitfield")
		}
		switch local := btf.UnderlyingType(typ).(type) {
		case *btf.Struct, *btf.Union:
			members := membersOf(local)
			if index >= len(members) {
				return fmt.Errorf("%s has no member %d", local, index)
			}
			member := members[index]
			typ = member.Type
			if member.Name == "" {
				if shapeOf(typ).class != classComposite {
					return fmt.Errorf("member %d of %s has no name", index, local)
				}
				continue // its members are found as the outer one's
			}
			q.steps = append(q.steps, step{member: member.Name, bitfield: member.BitfieldSize > 0, shape: shapeOf(typ)})
		case *btf.Array:
			if local.Nelems > 0 && index >= int(local.Nelems) {
				return fmt.Errorf("%s has no element %d", local, index)
			}
			typ = local.Type
			q.steps = append(q.steps, step{index: index, flexible: local.Nelems == 0, shape: shapeOf(typ)})
		default:
			return fmt.Errorf("%s has no parts", local)
		}
		last := q.steps[len(q.steps)-1]
		if last.shape.class == classOther {
			return fmt.Errorf("%s is no field", typ)
		}
		key.WriteString(" " + last.String())
	}
	return nil
}

func (s step) String() string {
	text := fmt.Sprintf("[%d]", s.index)
	if s.member != "" {
		text = "." + s.member
	}
	if s.bitfield {
		text += ":bits"
	}
	if s.flexible {
		text += "..."
	}
	return text + "/" + s.shape.String()
}

func (s shape) String() string {
	if s.name != "" {
		return classNames[s.class] + "(" + s.name + ")"
	}
	return classNames[s.class]
}

func membersOf(typ btf.Type) []btf.Member {
	switch t := typ.(type) {
	case *btf.Struct:
		return t.Members
	case *btf.Union:
		return t.Members
	}
	return nil
}

func shapeOf(typ btf.Type) shape {
	switch t := btf.UnderlyingType(typ).(type) {
	case *btf.Struct, *btf.Union:
		return shape{class: classComposite}
	case *btf.Array:
		return shape{class: classArray}
	case *btf.Pointer:
		return shape{class: classPointer}
	case *btf.Float:
		return shape{class: classFloat}
	case *btf.Int:
		return shape{class: classInt}
	case *btf.Enum:
		return shape{classEnum, essential(t.Name)}
	case *btf.Fwd:
		return shape{classFwd, essential(t.Name)}
	}
	return shape{}
}
