// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

var boot = time.Date(2026, time.November, 3, 12, 0, 0, 0, time.UTC)

// le is a number of so many bytes as records have it.
func le(n uint64, size int) []byte {
	return binary.LittleEndian.AppendUint64(nil, n)[:size]
}

// ip is a struct gadget_ip.
func ip(family uint32, addr ...byte) []byte {
	return slices.Concat(le(uint64(family), 4), addr, make([]byte, 16-len(addr)))
}

// tail is a struct gadget_bytes.
func tail(offset, length int) []byte {
	return slices.Concat(le(uint64(offset), 2), le(uint64(length), 2))
}

// value is what a test expects of an event.Value.
type value struct {
	kind  event.ValueKind
	int   int64
	uint  uint64
	text  string
	items []string
	slots []uint64
}

func requireValue(t *testing.T, want value, got event.Value) {
	t.Helper()
	require.Equal(t, want.kind, got.Kind)
	switch got.Kind {
	case event.Int, event.Time:
		require.Equal(t, want.int, got.Int())
	case event.Uint, event.Bool:
		require.Equal(t, want.uint, got.Uint())
	case event.Text:
		require.Equal(t, want.text, string(got.Text))
	case event.List:
		var items []string
		for item := range got.Items() {
			items = append(items, string(item))
		}
		require.Equal(t, want.items, items)
	case event.Slots:
		var slots []uint64
		for i := range got.Len() {
			slots = append(slots, got.Slot(i))
		}
		require.Equal(t, want.slots, slots)
	}
}

func TestValue(t *testing.T) {
	colors := []gadget.EnumValue{{Name: "RED", Value: 0}, {Name: "GREEN", Value: 7}, {Name: "NEGATIVE", Value: -1}}
	for _, test := range []struct {
		name   string
		field  gadget.Field
		record []byte
		want   value
	}{
		{"uint8", gadget.Field{Kind: gadget.Uint, Size: 1}, le(255, 1), value{kind: event.Uint, uint: 255}},
		{"uint16", gadget.Field{Kind: gadget.Uint, Size: 2}, le(65535, 2), value{kind: event.Uint, uint: 65535}},
		{"uint32", gadget.Field{Kind: gadget.Uint, Size: 4}, le(math.MaxUint32, 4), value{kind: event.Uint, uint: math.MaxUint32}},
		{"uint64", gadget.Field{Kind: gadget.Uint, Size: 8}, le(math.MaxUint64, 8), value{kind: event.Uint, uint: math.MaxUint64}},
		{"int8", gadget.Field{Kind: gadget.Int, Size: 1}, le(0x80, 1), value{kind: event.Int, int: -128}},
		{"int16", gadget.Field{Kind: gadget.Int, Size: 2}, le(0xffff, 2), value{kind: event.Int, int: -1}},
		{"int32", gadget.Field{Kind: gadget.Int, Size: 4}, le(0x7fffffff, 4), value{kind: event.Int, int: math.MaxInt32}},
		{"int64", gadget.Field{Kind: gadget.Int, Size: 8}, le(1<<63, 8), value{kind: event.Int, int: math.MinInt64}},
		{"false", gadget.Field{Kind: gadget.Bool, Size: 1}, []byte{0}, value{kind: event.Bool}},
		{"true", gadget.Field{Kind: gadget.Bool, Size: 1}, []byte{2}, value{kind: event.Bool, uint: 1}},
		{"string", gadget.Field{Kind: gadget.String, Size: 8}, []byte("comm\x00old"), value{kind: event.Text, text: "comm"}},
		{"string without end", gadget.Field{Kind: gadget.String, Size: 4}, []byte("fullmore"), value{kind: event.Text, text: "full"}},
		{"empty string", gadget.Field{Kind: gadget.String, Size: 4}, make([]byte, 4), value{kind: event.Text}},
		{"tail", gadget.Field{Kind: gadget.Tail, Size: 4}, append(tail(5, 3), "-abc-"...), value{kind: event.Text, text: "abc"}},
		{"tail of bytes", gadget.Field{Kind: gadget.Tail, Size: 4}, append(tail(4, 3), "\x00\xff\x00"...), value{kind: event.Text, text: "\x00\xff\x00"}},
		{"empty tail at the end", gadget.Field{Kind: gadget.Tail, Size: 4}, tail(4, 0), value{kind: event.Text}},
		{"tail past the end", gadget.Field{Kind: gadget.Tail, Size: 4}, append(tail(4, 4), "abc"...), value{}},
		{"tail beyond the end", gadget.Field{Kind: gadget.Tail, Size: 4}, tail(65535, 65535), value{}},
		{
			"args",
			gadget.Field{Kind: gadget.Tail, Size: 4, Semantic: gadget.Args},
			append(tail(4, 8), "sh\x00-c\x00\x00x"...),
			value{kind: event.List, items: []string{"sh", "-c", "", "x"}},
		},
		{"no args", gadget.Field{Kind: gadget.Tail, Size: 4, Semantic: gadget.Args}, tail(4, 0), value{kind: event.List}},
		{"args past the end", gadget.Field{Kind: gadget.Tail, Size: 4, Semantic: gadget.Args}, tail(5, 0), value{}},
		{"enum", gadget.Field{Kind: gadget.Enum, Size: 4, Values: colors}, le(7, 4), value{kind: event.Text, text: "GREEN"}},
		{"negative enum", gadget.Field{Kind: gadget.Enum, Size: 4, Values: colors}, le(math.MaxUint32, 4), value{kind: event.Text, text: "NEGATIVE"}},
		{"unknown enum", gadget.Field{Kind: gadget.Enum, Size: 4, Values: colors}, le(9, 4), value{kind: event.Text, text: "9"}},
		{"IPv4", gadget.Field{Kind: gadget.IP, Size: 20}, ip(2, 10, 0, 0, 1), value{kind: event.Text, text: "10.0.0.1"}},
		{"IPv6", gadget.Field{Kind: gadget.IP, Size: 20}, ip(10, 0xfe, 0x80), value{kind: event.Text, text: "fe80::"}},
		{"IPv4 in IPv6", gadget.Field{Kind: gadget.IP, Size: 20}, ip(10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4), value{kind: event.Text, text: "::ffff:1.2.3.4"}},
		{"no address", gadget.Field{Kind: gadget.IP, Size: 20}, ip(0), value{}},
		{"unknown family", gadget.Field{Kind: gadget.IP, Size: 20}, ip(3, 1, 2, 3), value{}},
		{"slots of 4", gadget.Field{Kind: gadget.Slots, Size: 8, Elem: 4}, append(le(1, 4), le(2, 4)...), value{kind: event.Slots, slots: []uint64{1, 2}}},
		{
			"slots of 8",
			gadget.Field{Kind: gadget.Slots, Size: 16, Elem: 8, Semantic: gadget.Log2},
			append(le(0, 8), le(math.MaxUint64, 8)...),
			value{kind: event.Slots, slots: []uint64{0, math.MaxUint64}},
		},
		{
			"timestamp",
			gadget.Field{Kind: gadget.Uint, Size: 8, Semantic: gadget.Timestamp},
			le(uint64(time.Minute)+1, 8),
			value{kind: event.Time, int: boot.Add(time.Minute + 1).UnixNano()},
		},
		{"duration", gadget.Field{Kind: gadget.Uint, Size: 8, Semantic: gadget.Duration}, le(5, 8), value{kind: event.Uint, uint: 5}},
		{"bytes", gadget.Field{Kind: gadget.Uint, Size: 8, Semantic: gadget.ByteCount}, le(6, 8), value{kind: event.Uint, uint: 6}},
		{"cgroup", gadget.Field{Kind: gadget.Uint, Size: 8, Semantic: gadget.Cgroup}, le(7, 8), value{kind: event.Uint, uint: 7}},
		{"mntns", gadget.Field{Kind: gadget.Uint, Size: 8, Semantic: gadget.MountNS}, le(8, 8), value{kind: event.Uint, uint: 8}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.field.Name = "field"
			source := gadget.Source{Size: test.field.Size, Fields: []gadget.Field{test.field}}
			schema := event.NewSchema(source, event.Options{BootTime: boot})
			require.Len(t, schema.Columns, 1)
			column := schema.Columns[0]
			got := column.Value(test.record)
			requireValue(t, test.want, got)
			if got.Kind != event.Null {
				require.Equal(t, column.Kind, got.Kind)
			}
			requireNullWhenCut(t, schema, test.record[:test.field.Size])
		})
	}
}

// requireNullWhenCut reads the record's fixed part cut at every length.
func requireNullWhenCut(t *testing.T, schema *event.Schema, record []byte) {
	t.Helper()
	for length := range record {
		for _, c := range schema.Columns {
			require.Equal(t, event.Null, c.Value(record[:length]).Kind, "%s of %d bytes", c.Name, length)
		}
	}
	require.Equal(t, event.Null, schema.Columns[0].Value(nil).Kind)
}

// TestValueAtOffset shows that neither end of a field's bytes is missed.
func TestValueAtOffset(t *testing.T) {
	source := gadget.Source{Size: 9, Fields: []gadget.Field{
		{Name: "a", Kind: gadget.Uint, Size: 1},
		{Name: "b", Kind: gadget.Uint, Offset: 1, Size: 4},
		{Name: "c", Kind: gadget.String, Offset: 5, Size: 4},
	}}
	record := []byte{0xff, 1, 2, 3, 4, 'w', 'x', 'y', 'z'}
	columns := event.NewSchema(source, event.Options{}).Columns
	requireValue(t, value{kind: event.Uint, uint: 0xff}, columns[0].Value(record))
	requireValue(t, value{kind: event.Uint, uint: 0x04030201}, columns[1].Value(record))
	requireValue(t, value{kind: event.Text, text: "wxyz"}, columns[2].Value(record))
	require.Equal(t, event.Null, columns[2].Value(record[:8]).Kind)
	requireValue(t, value{kind: event.Uint, uint: 0x04030201}, columns[1].Value(record[:8]))
}

// TestTextsDontOverlap shows that two columns of one record can be held at a time,
// and that appending to one doesn't write into the record.
func TestTextsDontOverlap(t *testing.T) {
	source := gadget.Source{Size: 16, Fields: []gadget.Field{
		{Name: "errno", Kind: gadget.Uint, Size: 4, Semantic: gadget.Errno},
		{Name: "mode", Kind: gadget.Uint, Offset: 4, Size: 4, Semantic: gadget.Mode},
		{Name: "comm", Kind: gadget.String, Offset: 8, Size: 8},
	}}
	record := slices.Concat(le(2, 4), le(0o644, 4), []byte("commcomm"))
	before := bytes.Clone(record)
	var texts []event.Value
	schema := event.NewSchema(source, event.Options{})
	for _, name := range []string{"error", "mode_octal", "comm"} {
		column, err := schema.Column(name)
		require.NoError(t, err)
		texts = append(texts, column.Value(record))
	}
	require.Equal(t, "ENOENT 0644 commcomm", string(bytes.Join([][]byte{texts[0].Text, texts[1].Text, texts[2].Text}, []byte(" "))))
	for i := range texts {
		_ = append(texts[i].Text, "!!!!!!!!"...)
	}
	require.Equal(t, before, record)
}

func TestItemsStops(t *testing.T) {
	source := gadget.Source{Size: 4, Fields: []gadget.Field{{Name: "args", Kind: gadget.Tail, Size: 4, Semantic: gadget.Args}}}
	record := append(tail(4, 5), "a\x00b\x00c"...)
	n := 0
	for range event.NewSchema(source, event.Options{}).Columns[0].Value(record).Items() {
		n++
		if n == 2 {
			break
		}
	}
	require.Equal(t, 2, n)
}
