// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

// maxWord is the longest text that isn't in the record itself: all open flags.
const maxWord = 256

// FuzzDecode reads random records of random layouts. The bytes of layout choose
// fields, four bytes each; they may overlap, as a union's would.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, []byte{}, uint16(0), false)
	f.Add([]byte{0, 0, 0, 0, 1, 1, 3, 2, 3, 2, 8, 0, 4, 3, 0, 0, 6, 0, 0, 0}, []byte("0123456789abcdef0123456789"), uint16(3), true)
	for kind := range byte(8) {
		f.Add([]byte{kind, 5, 3, 0}, make([]byte, 32), uint16(0), false)
		f.Add([]byte{kind, 3, 3, 200, kind, 0, 1, 9}, []byte("\x04\x00\x05\x00abcdefgh\x00\x00\x02\x00\x00\x00\xff\xff\xff\xff"), uint16(1), kind%2 == 0)
	}
	f.Fuzz(func(t *testing.T, layout, record []byte, shift uint16, arm bool) {
		source := randomSource(layout, uint32(shift)%64)
		opts := event.Options{Arch: "x86_64", BootTime: boot}
		if arm {
			opts.Arch = "arm64"
		}
		schema := event.NewSchema(source, opts)
		require.GreaterOrEqual(t, len(schema.Columns), len(source.Fields))
		require.Len(t, schema.Names(), len(schema.Columns))
		for _, c := range schema.Columns {
			checkValue(t, c, c.Value(record), len(record))
		}
	})
}

// checkValue walks through all of a value. What it holds is no longer than the
// record, or a word of a table.
func checkValue(t *testing.T, c *event.Column, v event.Value, length int) {
	t.Helper()
	if v.Kind == event.Null {
		require.Empty(t, v.Text)
		return
	}
	require.Equal(t, c.Kind, v.Kind)
	require.LessOrEqual(t, cap(v.Text), max(length, maxWord))
	total := 0
	if v.Kind == event.List {
		for item := range v.Items() {
			total += len(item) + 1
		}
		require.LessOrEqual(t, total, len(v.Text)+1)
	}
	if v.Kind == event.Slots {
		for i := range v.Len() {
			_ = v.Slot(i)
		}
		require.LessOrEqual(t, v.Len(), length)
	}
}

// randomSource makes fields of what an agent's stream lets pass: kinds with their
// sizes and meanings, at any offset; numbers also of sizes that there aren't.
func randomSource(layout []byte, shift uint32) gadget.Source {
	semantics := map[gadget.Kind][]gadget.Semantic{
		gadget.Uint: {
			"", gadget.Timestamp, gadget.Duration, gadget.ByteCount, gadget.Errno, gadget.Signal,
			gadget.Syscall, gadget.OpenFlags, gadget.Mode, gadget.Cgroup, gadget.MountNS,
		},
		gadget.Int:   {"", gadget.Errno, gadget.Signal, gadget.Syscall},
		gadget.Tail:  {"", gadget.Args},
		gadget.Slots: {"", gadget.Log2},
	}
	source := gadget.Source{Kind: gadget.Events}
	for i := 0; i+4 <= len(layout) && len(source.Fields) < gadget.MaxFields; i += 4 {
		b := layout[i:]
		field := gadget.Field{Name: fmt.Sprintf("field%d", i), Kind: gadget.Kind(b[0]%8) + gadget.Uint, Offset: uint32(b[3]) + shift}
		switch field.Kind {
		case gadget.Bool:
			field.Size = 1
		case gadget.Tail:
			field.Size = 4
		case gadget.IP:
			field.Size = 20
		case gadget.String:
			field.Size = uint32(b[2]) + 1
		case gadget.Slots:
			field.Elem = 4 << (b[1] % 2)
			field.Size = field.Elem * uint32(b[2])
		default:
			field.Size = [...]uint32{1, 2, 4, 8, 3, 16}[b[1]%6]
		}
		if field.Kind == gadget.Enum {
			field.Values = []gadget.EnumValue{{Name: "NAME", Value: int64(int8(b[2]))}}
		}
		if of := semantics[field.Kind]; len(of) > 0 {
			field.Semantic = of[int(b[2])%len(of)]
		}
		source.Size = max(source.Size, field.Offset+field.Size)
		source.Fields = append(source.Fields, field)
	}
	return source
}
