// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

const (
	// MaxRecordSize bounds a record without its tail, in bytes.
	MaxRecordSize = 16 << 10
	// MaxFields bounds the number of fields of a record.
	MaxFields  = 256
	maxNesting = 4
)

var (
	fieldPattern  = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
	symbolPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
)

func parseSource(collection *ebpf.CollectionSpec) (Source, error) {
	var found []Source
	for _, name := range sortedKeys(collection.Maps) {
		m := collection.Maps[name]
		word := parseTags(m.Tags).value("source")
		if word == "" {
			continue
		}
		if !symbolPattern.MatchString(name) {
			return Source{}, fmt.Errorf("map name %.64q is not a C name", name)
		}
		source, err := mapSource(word, name, m)
		if err != nil {
			return Source{}, fmt.Errorf("map %s: %w", name, err)
		}
		found = append(found, source)
	}
	if len(found) != 1 {
		return Source{}, fmt.Errorf("object declares %d sources of records, want exactly one of GADGET_EVENTS, GADGET_TABLE, GADGET_SNAPSHOT", len(found))
	}
	return found[0], nil
}

func mapSource(word, name string, m *ebpf.MapSpec) (Source, error) {
	source := Source{Map: name}
	for kind, s := range sourceKinds {
		if s == word {
			source.Kind = kind
		}
	}
	var l layout
	switch source.Kind {
	case Events, Snapshot:
		if err := l.record(m.Value); err != nil {
			return Source{}, err
		}
	case Table:
		if err := l.record(m.Key); err != nil {
			return Source{}, fmt.Errorf("key: %w", err)
		}
		source.KeySize = l.size
		l.size = (l.size + 7) &^ 7
		if err := l.record(m.Value); err != nil {
			return Source{}, fmt.Errorf("value: %w", err)
		}
	default:
		return Source{}, fmt.Errorf("unknown source %q", word)
	}
	source.Size, source.Fields = l.size, l.fields
	return source, nil
}

// layout collects the fields of a record; size is where the next struct begins.
type layout struct {
	size   uint32
	fields []Field
}

func (l *layout) record(typ btf.Type) error {
	record, ok := underlying(typ).(*btf.Struct)
	if !ok {
		return fmt.Errorf("record is not a struct but %v", typ)
	}
	if most := MaxRecordSize - l.size; record.Size == 0 || record.Size > most {
		return fmt.Errorf("record struct %s has %d bytes, want 1 to %d", record.Name, record.Size, most)
	}
	if err := l.members(record, "", l.size, l.size+record.Size, 0); err != nil {
		return fmt.Errorf("record struct %s: %w", record.Name, err)
	}
	l.size += record.Size
	return nil
}

func (l *layout) members(record *btf.Struct, prefix string, base, end uint32, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("structs nested more than %d deep", maxNesting)
	}
	for _, member := range record.Members {
		if !fieldPattern.MatchString(member.Name) {
			return fmt.Errorf("field name %.64q is not lower case with underscores", member.Name)
		}
		name := prefix + member.Name
		if member.BitfieldSize != 0 || member.Offset%8 != 0 {
			return fmt.Errorf("field %s: bit fields can't be records' fields", name)
		}
		offset := base + member.Offset.Bytes()
		if nested, ok := underlying(member.Type).(*btf.Struct); ok && nested.Name != "gadget_bytes" && nested.Name != "gadget_ip" {
			if err := l.members(nested, name+".", offset, end, depth+1); err != nil {
				return err
			}
			continue
		}
		field, err := parseField(name, member)
		if err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
		field.Offset = offset
		if offset > end || field.Size > end-offset {
			return fmt.Errorf("field %s reaches past the record's end", name)
		}
		if err := l.add(field); err != nil {
			return err
		}
	}
	return nil
}

// reserved are the names that say where a record was made. A field of that name
// could pass for another container's.
var reserved = []string{"node", "namespace", "pod", "container", "image"}

func (l *layout) add(field Field) error {
	if slices.Contains(reserved, field.Name) {
		return fmt.Errorf("field name %s is reserved for where the record was made", field.Name)
	}
	if len(l.fields) == MaxFields {
		return fmt.Errorf("record has more than %d fields", MaxFields)
	}
	if slices.ContainsFunc(l.fields, func(f Field) bool { return f.Name == field.Name }) {
		return fmt.Errorf("field %s stands twice in the record", field.Name)
	}
	l.fields = append(l.fields, field)
	return nil
}

func parseField(name string, member btf.Member) (Field, error) {
	tags := parseTags(member.Tags)
	field := Field{Name: name, Doc: tags.value("doc"), Semantic: Semantic(tags.value("type")), Hidden: tags.has("hidden")}
	if err := field.setType(member.Type); err != nil {
		return Field{}, err
	}
	if field.Doc == "" {
		return Field{}, errors.New("has no GADGET_DOC")
	}
	if width := tags.value("width"); width != "" {
		n, err := strconv.Atoi(width)
		if err != nil || n < 1 || n > 200 {
			return Field{}, fmt.Errorf("width %q is not a number from 1 to 200", width)
		}
		field.Width = n
	}
	if field.Semantic != "" && !slices.Contains(semanticKinds[field.Semantic], field.Kind) {
		return Field{}, fmt.Errorf("type %q doesn't go with a %s", field.Semantic, field.Kind)
	}
	return field, nil
}

// setType derives kind, size and enum values from the member's C type.
func (f *Field) setType(typ btf.Type) error {
	typ = underlying(typ)
	size, err := btf.Sizeof(typ)
	if err != nil || size <= 0 || size > MaxRecordSize {
		return fmt.Errorf("type %v has no usable size", typ)
	}
	f.Size = uint32(size)
	switch t := typ.(type) {
	case *btf.Int:
		return f.setInt(t)
	case *btf.Enum:
		f.Kind, f.Values = Enum, enumValues(t)
		if !isWord(t.Size) {
			return fmt.Errorf("enum of %d bytes", t.Size)
		}
	case *btf.Array:
		return f.setArray(t)
	case *btf.Struct:
		switch {
		case t.Name == "gadget_bytes" && t.Size == 4:
			f.Kind = Tail
		case t.Name == "gadget_ip" && t.Size == 20:
			f.Kind = IP
		default:
			return fmt.Errorf("struct %s can't be a field", t.Name)
		}
	default:
		return fmt.Errorf("type %v can't be a field", typ)
	}
	return nil
}

func (f *Field) setInt(t *btf.Int) error {
	switch {
	case !isWord(t.Size):
		return fmt.Errorf("integer of %d bytes", t.Size)
	case t.Encoding == btf.Bool && t.Size == 1:
		f.Kind = Bool
	case t.Encoding == btf.Signed && t.Name != "char":
		f.Kind = Int
	default:
		f.Kind = Uint
	}
	return nil
}

// isWord says whether numbers of that many bytes can be read.
func isWord(size uint32) bool { return size == 1 || size == 2 || size == 4 || size == 8 }

func (f *Field) setArray(t *btf.Array) error {
	elem, ok := underlying(t.Type).(*btf.Int)
	switch {
	case !ok:
		return fmt.Errorf("array of %v can't be a field", t.Type)
	case elem.Size == 1 && elem.Name == "char":
		f.Kind = String
	case elem.Encoding == btf.Unsigned && (elem.Size == 4 || elem.Size == 8):
		f.Kind, f.Elem = Slots, elem.Size
	default:
		return fmt.Errorf("array of %v can't be a field", t.Type)
	}
	return nil
}

func enumValues(t *btf.Enum) []EnumValue {
	values := make([]EnumValue, 0, len(t.Values))
	for _, v := range t.Values {
		values = append(values, EnumValue{Name: clean(v.Name), Value: int64(v.Value)})
	}
	return values
}

// underlying strips typedefs and qualifiers. Cyclic types end it.
func underlying(typ btf.Type) btf.Type {
	for range 32 {
		switch t := typ.(type) {
		case *btf.Typedef:
			typ = t.Type
		case *btf.Const:
			typ = t.Type
		case *btf.Volatile:
			typ = t.Type
		case *btf.TypeTag:
			typ = t.Type
		case *btf.Restrict:
			typ = t.Type
		default:
			return typ
		}
	}
	return typ
}
