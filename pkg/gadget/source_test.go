// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// Types as clang writes them.
var (
	u8    = &btf.Int{Name: "unsigned char", Size: 1}
	u16   = &btf.Int{Name: "unsigned short", Size: 2}
	u32   = &btf.Int{Name: "unsigned int", Size: 4}
	u64   = &btf.Int{Name: "unsigned long long", Size: 8}
	s32   = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	char  = &btf.Int{Name: "char", Size: 1, Encoding: btf.Signed}
	schar = &btf.Int{Name: "signed char", Size: 1, Encoding: btf.Signed}
	u128  = &btf.Int{Name: "unsigned __int128", Size: 16}
	boole = &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	state = &btf.Enum{Name: "state", Size: 4, Values: []btf.EnumValue{{Name: "OFF", Value: 0}, {Name: "ON", Value: 1}}}
	tail  = &btf.Struct{Name: "gadget_bytes", Size: 4, Members: []btf.Member{{Name: "offset", Type: u16}, {Name: "length", Type: u16, Offset: 16}}}
	ip    = &btf.Struct{Name: "gadget_ip", Size: 20, Members: []btf.Member{{Name: "family", Type: u32}}}
)

func array(typ btf.Type, n uint32) *btf.Array { return &btf.Array{Index: u32, Type: typ, Nelems: n} }

// member is a documented member at an offset in bytes.
func member(name string, offset uint32, typ btf.Type, tags ...string) btf.Member {
	return btf.Member{Name: name, Type: typ, Offset: btf.Bits(offset * 8), Tags: append([]string{"doc:what it is"}, tags...)}
}

func record(size uint32, members ...btf.Member) *btf.Struct {
	return &btf.Struct{Name: "event", Size: size, Members: members}
}

// nest puts typ into n structs.
func nest(n int, typ *btf.Struct) *btf.Struct {
	for range n {
		typ = &btf.Struct{Name: "outer", Size: typ.Size, Members: []btf.Member{{Name: "s", Type: typ}}}
	}
	return typ
}

func TestFieldsFollowFromTypes(t *testing.T) {
	for _, test := range []struct {
		name string
		typ  btf.Type
		tags []string
		want Field
	}{
		{"byte", u8, nil, Field{Size: 1, Kind: Uint}},
		{"short", u16, nil, Field{Size: 2, Kind: Uint}},
		{"unsigned", u32, nil, Field{Size: 4, Kind: Uint}},
		{"long", u64, nil, Field{Size: 8, Kind: Uint}},
		{"signed", s32, nil, Field{Size: 4, Kind: Int}},
		{"signed char", schar, nil, Field{Size: 1, Kind: Int}},
		{"one char is a number", char, nil, Field{Size: 1, Kind: Uint}},
		{"bool", boole, nil, Field{Size: 1, Kind: Bool}},
		{"wide bool is a number", &btf.Int{Name: "b", Size: 4, Encoding: btf.Bool}, nil, Field{Size: 4, Kind: Uint}},
		{"text", array(char, 16), nil, Field{Size: 16, Kind: String}},
		{"slots of 32 bits", array(u32, 27), nil, Field{Size: 108, Kind: Slots, Elem: 4}},
		{"slots of 64 bits", array(u64, 3), nil, Field{Size: 24, Kind: Slots, Elem: 8}},
		{"enum", state, nil, Field{Size: 4, Kind: Enum, Values: []EnumValue{{"OFF", 0}, {"ON", 1}}}},
		{"tail", tail, nil, Field{Size: 4, Kind: Tail}},
		{"address", ip, nil, Field{Size: 20, Kind: IP}},
		{"typedef", &btf.Typedef{Name: "__u32", Type: u32}, nil, Field{Size: 4, Kind: Uint}},
		{"qualifiers", &btf.Const{Type: &btf.Volatile{Type: &btf.Restrict{Type: &btf.TypeTag{Type: u64}}}}, nil, Field{Size: 8, Kind: Uint}},
		{"array of typedefs", array(&btf.Typedef{Name: "letter", Type: char}, 4), nil, Field{Size: 4, Kind: String}},
		{"all tags", u64, []string{"type:duration", "width:12", "hidden"}, Field{Size: 8, Kind: Uint, Semantic: Duration, Width: 12, Hidden: true}},
		{"unknown tags are left alone", u64, []string{"color:red", "", ":", "hidden:yes"}, Field{Size: 8, Kind: Uint, Hidden: true}},
		{"of two tags the first counts", u64, []string{"width:3", "width:4"}, Field{Size: 8, Kind: Uint, Width: 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l layout
			require.NoError(t, l.record(record(512, member("x", 8, test.typ, test.tags...))))
			test.want.Name, test.want.Doc, test.want.Offset = "x", "what it is", 8
			require.Equal(t, []Field{test.want}, l.fields)
		})
	}
}

func TestLayoutRules(t *testing.T) {
	many := make([]btf.Member, MaxFields+1)
	for i := range many {
		many[i] = member(fmt.Sprintf("f%d", i), uint32(i), u8)
	}
	cycle := &btf.Typedef{Name: "loop"}
	cycle.Type = cycle
	for _, test := range []struct {
		name string
		typ  btf.Type
		want string
	}{
		{"no type", nil, "record is not a struct but"},
		{"number", u32, "record is not a struct but"},
		{"union", &btf.Union{Name: "u", Size: 8}, "record is not a struct but"},
		{"endless typedef", cycle, "record is not a struct but"},
		{"empty struct", record(0), "has 0 bytes, want 1 to 16384"},
		{"huge struct", record(MaxRecordSize+1, member("x", 0, u8)), "has 16385 bytes, want 1 to 16384"},
		{"too many fields", record(1024, many...), "more than 256 fields"},
		{"bit field", record(8, btf.Member{Name: "x", Type: u32, BitfieldSize: 3}), "field x: bit fields can't be"},
		{"half a byte in", record(8, btf.Member{Name: "x", Type: u32, Offset: 4}), "field x: bit fields can't be"},
		{"past the end", record(8, member("x", 8, u8)), "field x reaches past the record's end"},
		{"partly past the end", record(8, member("x", 4, u64)), "field x reaches past the record's end"},
		{"far past the end", record(8, member("x", 1<<28, u64)), "field x reaches past the record's end"},
		{"nested past the end", record(8, member("s", 4, record(8, member("x", 0, u64)))), "field s.x reaches past the record's end"},
		{"same name twice", record(8, member("x", 0, u32), member("x", 4, u32)), "field x stands twice"},
		{"no doc", record(8, btf.Member{Name: "x", Type: u32}), "field x: has no GADGET_DOC"},
		{"no name", record(8, member("", 0, u32)), `field name "" is not lower case`},
		{"anonymous struct", record(8, member("", 0, record(8, member("x", 0, u32)))), `field name "" is not lower case`},
		{"dot in a name", record(8, member("a.b", 0, u32)), `field name "a.b" is not lower case`},
		{"pointer", record(8, member("x", 0, &btf.Pointer{Target: u8})), "can't be a field"},
		{"union inside", record(8, member("x", 0, &btf.Union{Name: "u", Size: 8})), "can't be a field"},
		{"128 bits", record(16, member("x", 0, u128)), "field x: integer of 16 bytes"},
		{"enum of 3 bytes", record(16, member("x", 0, &btf.Enum{Name: "e", Size: 3})), "field x: enum of 3 bytes"},
		{"enum of 16 bytes", record(16, member("x", 0, &btf.Enum{Name: "e", Size: 16})), "field x: enum of 16 bytes"},
		{"array of nothing", record(16, member("x", 0, array(char, 0))), "field x: type"},
		{"array of signed numbers", record(16, member("x", 0, array(s32, 2))), "field x: array of"},
		{"array of shorts", record(16, member("x", 0, array(u16, 2))), "field x: array of"},
		{"array of structs", record(16, member("x", 0, array(ip, 2))), "field x: array of"},
		{"array of arrays", record(16, member("x", 0, array(array(char, 4), 4))), "field x: array of"},
		{"endless array", record(16, member("x", 0, array(char, 1<<31))), "field x: type"},
		{"endless member", record(16, member("x", 0, cycle)), "field x: type"},
		{"tail of another size", record(16, member("x", 0, &btf.Struct{Name: "gadget_bytes", Size: 8})), "struct gadget_bytes can't be a field"},
		{"address of another size", record(64, member("x", 0, &btf.Struct{Name: "gadget_ip", Size: 24})), "struct gadget_ip can't be a field"},
		{"six structs deep", nest(6, record(8, member("x", 0, u64))), "structs nested more than 4 deep"},
		{"meaning for another kind", record(8, member("x", 0, s32, "type:timestamp")), `type "timestamp" doesn't go with a int`},
		{"unknown meaning", record(8, member("x", 0, s32, "type:colour")), `type "colour" doesn't go with a int`},
		{"width 0", record(8, member("x", 0, s32, "width:0")), `width "0" is not a number from 1 to 200`},
		{"width 201", record(8, member("x", 0, s32, "width:201")), `width "201" is not a number from 1 to 200`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l layout
			require.ErrorContains(t, l.record(test.typ), test.want)
		})
	}
}

func TestNestedStructsGiveDottedNames(t *testing.T) {
	target := record(16, member("pid", 0, u32), member("where", 8, record(8, member("ns", 4, u32))))
	var l layout
	require.NoError(t, l.record(record(24, member("pid", 0, u32), member("target", 8, target))))
	var got []string
	for _, f := range l.fields {
		got = append(got, fmt.Sprintf("%s@%d", f.Name, f.Offset))
	}
	require.Equal(t, []string{"pid@0", "target.pid@8", "target.where.ns@20"}, got)

	var deepest layout
	require.NoError(t, deepest.record(nest(4, record(8, member("x", 0, u64)))))
	require.Equal(t, "s.s.s.s.x", deepest.fields[0].Name)
}

// sourceOf parses the only map of a collection.
func sourceOf(tag string, key, value btf.Type) (Source, error) {
	return parseSource(&ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{
		"other":  {Name: "other"},
		"source": {Name: "source", Key: key, Value: value, Tags: []string{tag}},
	}})
}

func TestTableRecordIsKeyThenValue(t *testing.T) {
	key := record(12, member("pid", 0, u32), member("call", 8, u32))
	value := &btf.Struct{Name: "counts", Size: 16, Members: []btf.Member{member("count", 0, u64), member("time", 8, u64)}}
	got, err := sourceOf("source:table", key, value)
	require.NoError(t, err)
	require.Equal(t, Source{
		Kind: Table, Map: "source", Size: 32, KeySize: 12,
		Fields: []Field{
			{Name: "pid", Doc: "what it is", Offset: 0, Size: 4, Kind: Uint},
			{Name: "call", Doc: "what it is", Offset: 8, Size: 4, Kind: Uint},
			{Name: "count", Doc: "what it is", Offset: 16, Size: 8, Kind: Uint},
			{Name: "time", Doc: "what it is", Offset: 24, Size: 8, Kind: Uint},
		},
	}, got)
}

func TestSourceRules(t *testing.T) {
	good := record(8, member("x", 0, u64))
	half := record(MaxRecordSize/2+8, member("x", 0, u64))
	value := record(MaxRecordSize/2, member("y", 0, u64))
	for _, test := range []struct {
		name, tag  string
		key, value btf.Type
		want       string
	}{
		{"events", "source:events", nil, good, ""},
		{"snapshot", "source:snapshot", u32, good, ""},
		{"table without key", "source:table", nil, good, "map source: key: record is not a struct"},
		{"table without value", "source:table", good, nil, "map source: value: record is not a struct"},
		{"table with a field in key and value", "source:table", good, good, "field x stands twice"},
		{"table larger than a record", "source:table", half, value, "value: record struct event has 8192 bytes, want 1 to 8184"},
		{"events without record", "source:events", nil, nil, "map source: record is not a struct"},
		{"unknown", "source:queue", nil, good, `unknown source "queue"`},
		{"without word", "source", nil, good, "declares 0 sources"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := sourceOf(test.tag, test.key, test.value)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := parseSource(&ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{
		"a": {Value: good, Tags: []string{"source:events"}}, "b": {Value: good, Tags: []string{"source:snapshot"}},
	}})
	require.ErrorContains(t, err, "declares 2 sources")
	_, err = parseSource(&ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{"a\x1b": {Value: good, Tags: []string{"source:events"}}}})
	require.ErrorContains(t, err, "is not a C name")
}
