// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

func TestSchemaColumns(t *testing.T) {
	source := gadget.Source{Size: 64, Fields: []gadget.Field{
		{Name: "timestamp", Kind: gadget.Uint, Size: 8, Semantic: gadget.Timestamp},
		{Name: "pid", Doc: "process id", Kind: gadget.Uint, Offset: 8, Size: 4, Width: 7},
		{Name: "a_rather_long_name", Kind: gadget.Int, Offset: 12, Size: 4, Width: 3},
		{Name: "comm", Kind: gadget.String, Offset: 16, Size: 16},
		{Name: "name", Kind: gadget.String, Offset: 16, Size: 48},
		{Name: "path", Kind: gadget.Tail, Offset: 32, Size: 4, Hidden: true},
		{Name: "addr", Kind: gadget.IP, Offset: 36, Size: 20},
		{Name: "ok", Kind: gadget.Bool, Offset: 56, Size: 1},
	}}
	schema := event.NewSchema(source, event.Options{})
	require.Equal(t, source, schema.Source)
	type shape struct {
		name  string
		kind  event.ValueKind
		width int
		right bool
	}
	var got []shape
	for _, c := range schema.Columns {
		got = append(got, shape{c.Name, c.Kind, c.Width, c.Right})
		require.Equal(t, c.Name == "path", c.Hidden)
		require.False(t, c.Raw)
	}
	require.Equal(t, []shape{
		{"timestamp", event.Time, 12, false},
		{"pid", event.Uint, 7, true},
		{"a_rather_long_name", event.Int, 18, true},
		{"comm", event.Text, 16, false},
		{"name", event.Text, 32, false},
		{"path", event.Text, 30, false},
		{"addr", event.Text, 15, false},
		{"ok", event.Bool, 8, false},
	}, got)
	column, err := schema.Column("pid")
	require.NoError(t, err)
	require.Equal(t, "process id", column.Doc)
}

func TestUnknownColumn(t *testing.T) {
	source := gadget.Source{Size: 4, Fields: []gadget.Field{{Name: "errno", Kind: gadget.Uint, Size: 4, Semantic: gadget.Errno}}}
	_, err := event.NewSchema(source, event.Options{}).Column("Error")
	require.EqualError(t, err, `unknown field "Error", known are: errno, error`)
}

// TestTimestampWithoutBootTime shows that it then counts from the epoch.
func TestTimestampWithoutBootTime(t *testing.T) {
	source := gadget.Source{Size: 8, Fields: []gadget.Field{{Name: "timestamp", Kind: gadget.Uint, Size: 8, Semantic: gadget.Timestamp}}}
	schema := event.NewSchema(source, event.Options{})
	requireValue(t, value{kind: event.Time, int: int64(time.Second)}, schema.Columns[0].Value(le(uint64(time.Second), 8)))
}

// TestReadingDoesNotAllocate reads every kind of column again and again.
func TestReadingDoesNotAllocate(t *testing.T) {
	schema := event.NewSchema(everything(), event.Options{BootTime: boot})
	record := make([]byte, schema.Source.Size+10)
	for i := range record {
		record[i] = byte(i)
	}
	copy(record, tail(int(schema.Source.Size), 10))
	read := func() {
		for _, c := range schema.Columns {
			v := c.Value(record)
			for item := range v.Items() {
				_ = item
			}
			for i := range v.Len() {
				_ = v.Slot(i)
			}
		}
	}
	read()
	require.Zero(t, testing.AllocsPerRun(100, read))
}

// everything is a source with a field for every kind and meaning.
func everything() gadget.Source {
	var source gadget.Source
	add := func(f gadget.Field) {
		f.Name = "f" + string(rune('a'+len(source.Fields)))
		f.Offset = source.Size
		source.Size += f.Size
		source.Fields = append(source.Fields, f)
	}
	add(gadget.Field{Kind: gadget.Tail, Size: 4, Semantic: gadget.Args})
	add(gadget.Field{Kind: gadget.Tail, Size: 4})
	add(gadget.Field{Kind: gadget.String, Size: 16})
	add(gadget.Field{Kind: gadget.Bool, Size: 1})
	add(gadget.Field{Kind: gadget.IP, Size: 20})
	add(gadget.Field{Kind: gadget.Enum, Size: 4, Values: []gadget.EnumValue{{Name: "ONE", Value: 1}}})
	add(gadget.Field{Kind: gadget.Slots, Size: 32, Elem: 4, Semantic: gadget.Log2})
	for _, size := range []uint32{1, 2, 4, 8} {
		add(gadget.Field{Kind: gadget.Uint, Size: size})
		add(gadget.Field{Kind: gadget.Int, Size: size})
	}
	for _, semantic := range []gadget.Semantic{
		gadget.Timestamp, gadget.Duration, gadget.ByteCount, gadget.Errno, gadget.Signal,
		gadget.Syscall, gadget.OpenFlags, gadget.Mode, gadget.Cgroup, gadget.MountNS,
	} {
		add(gadget.Field{Kind: gadget.Uint, Size: 8, Semantic: semantic})
	}
	return source
}
