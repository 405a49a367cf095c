// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

// specs parses all built-in gadgets.
func specs(tb testing.TB) []*gadget.Spec {
	tb.Helper()
	paths, err := filepath.Glob("../../gadgets/*/gadget.*.o")
	require.NoError(tb, err)
	require.NotEmpty(tb, paths, "no objects: run make objects")
	var all []*gadget.Spec
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(tb, err)
		object, err := gadget.Parse(raw)
		require.NoError(tb, err, path)
		all = append(all, &object.Spec)
	}
	return all
}

func TestSpecsSurviveTheWire(t *testing.T) {
	for _, spec := range specs(t) {
		raw, err := proto.Marshal(FromSpec(spec))
		require.NoError(t, err)
		var message Gadget
		require.NoError(t, proto.Unmarshal(raw, &message))
		got, err := message.Spec()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(spec, got), spec.Name)
	}
}

// TestWholeCatalogFitsIntoAMessage leaves room for ten times as many gadgets.
func TestWholeCatalogFitsIntoAMessage(t *testing.T) {
	catalog := &CatalogResponse{}
	for _, spec := range specs(t) {
		catalog.Gadgets = append(catalog.Gadgets, FromSpec(spec))
	}
	require.Less(t, proto.Size(catalog), MaxMessage/10)
}

func field(change func(f *Field)) *Source {
	f := &Field{Name: "x", Doc: "a field", Size: 4, Kind: uint32(gadget.Uint)}
	change(f)
	return &Source{Kind: uint32(gadget.Events), Size: 64, Fields: []*Field{f}}
}

// kind is a field of a kind and sizes.
func kind(k gadget.Kind, size, elem uint32) *Source {
	return field(func(f *Field) { f.Kind, f.Size, f.Elem = uint32(k), size, elem })
}

func TestHostileFieldsAreRefused(t *testing.T) {
	many := &Source{}
	for range gadget.MaxFields + 1 {
		many.Fields = append(many.Fields, kind(gadget.Uint, 4, 0).Fields...)
	}
	for _, test := range []struct {
		name   string
		source *Source
		bad    bool
	}{
		{"none", nil, false},
		{"no fields", &Source{}, false},
		{"number", kind(gadget.Uint, 8, 0), false},
		{"kind of a newer agent", kind(99, 12, 0), false},
		{"no kind", kind(0, 4, 0), false},
		{"slots", kind(gadget.Slots, 24, 8), false},
		{"too many fields", many, true},
		{"nil field", &Source{Fields: []*Field{nil}}, true},
		{"no size", kind(gadget.Uint, 0, 0), true},
		{"huge", kind(gadget.String, gadget.MaxRecordSize+1, 0), true},
		{"far away", field(func(f *Field) { f.Offset = gadget.MaxRecordSize + 1 }), true},
		{"sum that wraps around", field(func(f *Field) { f.Offset, f.Size = math.MaxUint32, 2 }), true},
		{"number of 16 bytes", kind(gadget.Uint, 16, 0), true},
		{"signed number of 16 bytes", kind(gadget.Int, 16, 0), true},
		{"signed number of 3 bytes", kind(gadget.Int, 3, 0), true},
		{"enum of 9 bytes", kind(gadget.Enum, 9, 0), true},
		{"bool of 4 bytes", kind(gadget.Bool, 4, 0), true},
		{"tail of 2 bytes", kind(gadget.Tail, 2, 0), true},
		{"tail of 8 bytes", kind(gadget.Tail, 8, 0), true},
		{"address of 4 bytes", kind(gadget.IP, 4, 0), true},
		{"slots of nothing", kind(gadget.Slots, 24, 0), true},
		{"slots of 16 bytes", kind(gadget.Slots, 32, 16), true},
		{"slots that don't add up", kind(gadget.Slots, 30, 8), true},
		{"text without room", kind(gadget.String, 0, 0), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec, err := (&Gadget{Name: "trace_x", Source: test.source}).Spec()
			if test.bad {
				require.ErrorContains(t, err, `gadget "trace_x": `)
				require.Nil(t, spec)
				return
			}
			require.NoError(t, err)
			readEverything(spec.Source)
		})
	}
}

// readEverything reads every column of records of all lengths.
func readEverything(source gadget.Source) {
	schema := event.NewSchema(source, event.Options{})
	record := make([]byte, source.Size+8)
	for i := range record {
		record[i] = 0xff
	}
	for n := range record {
		for _, c := range schema.Columns {
			v := c.Value(record[:n])
			for range v.Items() {
			}
			for i := range v.Len() {
				v.Slot(i)
			}
		}
	}
}

func TestHostileParametersAreRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		param *Param
		bad   bool
	}{
		{"number", &Param{Name: "p", Kind: uint32(gadget.Uint), Size: 8}, false},
		{"text", &Param{Name: "p", Kind: uint32(gadget.String), Size: 16}, false},
		{"list", &Param{Name: "p", Kind: uint32(gadget.Uint), Size: 2, List: true, Count: 16}, false},
		{"kind of a newer agent", &Param{Name: "p", Kind: 99, Size: 1234}, false},
		{"number of 100 bytes", &Param{Name: "p", Kind: uint32(gadget.Int), Size: 100}, true},
		{"number without bytes", &Param{Name: "p", Kind: uint32(gadget.Uint)}, true},
		{"enum of 9 bytes", &Param{Name: "p", Kind: uint32(gadget.Enum), Size: 9}, true},
		{"bool of 8 bytes", &Param{Name: "p", Kind: uint32(gadget.Bool), Size: 8}, true},
		{"huge text", &Param{Name: "p", Kind: uint32(gadget.String), Size: math.MaxUint32}, true},
		{"endless list", &Param{Name: "p", Kind: uint32(gadget.Uint), Size: 8, List: true, Count: math.MaxUint32}, true},
		{"endless list of a newer agent", &Param{Name: "p", Kind: 99, Size: math.MaxUint32, List: true, Count: math.MaxUint32}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec, err := (&Gadget{Name: "trace_x", Params: []*Param{test.param}}).Spec()
			if test.bad {
				require.ErrorContains(t, err, `gadget "trace_x": parameter "p"`)
				return
			}
			require.NoError(t, err)
			for _, text := range []string{"", "1", "-1", "true", "1,2,3", "x"} {
				// Whether it is valid doesn't matter, only that it doesn't panic.
				_ = spec.CheckParams(map[string]string{"p": text})
			}
		})
	}
}

// TestNamesThatCommandsCannotHaveAreRefused: a client makes commands, flags and
// columns of them, and prints them.
func TestNamesThatCommandsCannotHaveAreRefused(t *testing.T) {
	source := func(name string) *Source { return field(func(f *Field) { f.Name = name }) }
	for _, g := range []*Gadget{
		{Name: ""},
		{Name: "trace"},
		{Name: "trace_\x1b[2J"},
		{Name: "Trace_Exec"},
		{Name: "trace exec"},
		{Name: "trace_x", Params: []*Param{{Name: "", Kind: 1, Size: 4}}},
		{Name: "trace_x", Params: []*Param{{Name: "a\nb", Kind: 1, Size: 4}}},
		{Name: "trace_x", Params: []*Param{{Name: "a=b", Kind: 1, Size: 4}}},
		{Name: "trace_x", Params: []*Param{{Name: "--x", Kind: 1, Size: 4}}},
		{Name: "trace_x", Source: source("")},
		{Name: "trace_x", Source: source("a b")},
		{Name: "trace_x", Source: source("\u202e")},
	} {
		_, err := g.Spec()
		require.Error(t, err, g.String())
		require.NotContains(t, err.Error(), "\x1b")
		require.NotContains(t, err.Error(), "\n")
		require.NotContains(t, err.Error(), "\u202e")
	}
}

func TestWidthIsBounded(t *testing.T) {
	spec, err := (&Gadget{Name: "trace_x", Source: field(func(f *Field) { f.Width = math.MaxUint32 })}).Spec()
	require.NoError(t, err)
	require.Equal(t, 200, spec.Source.Fields[0].Width)
}

func TestPeersOfTheSameMajorVersionGoTogether(t *testing.T) {
	require.NoError(t, CheckVersion(Current()))
	require.NoError(t, CheckVersion(&Version{Major: Major, Minor: 99}))
	require.EqualError(t, CheckVersion(&Version{Major: 2, Minor: 3}),
		"protocol version 2.3 of the peer doesn't go with 1.2: use the same major version on both sides")
	require.ErrorContains(t, CheckVersion(nil), "protocol version 0.0 of the peer")
}

// FuzzSpec reads whatever an agent may send, and records with it.
func FuzzSpec(f *testing.F) {
	for _, spec := range specs(f) {
		raw, err := proto.Marshal(FromSpec(spec))
		require.NoError(f, err)
		f.Add(raw, "1")
	}
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		var message Gadget
		if proto.Unmarshal(raw, &message) != nil {
			return
		}
		spec, err := message.Spec()
		require.Equal(t, err == nil, spec != nil)
		if err != nil {
			return
		}
		spec.Source.Size = min(spec.Source.Size, 64)
		readEverything(spec.Source)
		for _, p := range spec.Params {
			_ = spec.CheckParams(map[string]string{p.Name: text})
		}
	})
}
