// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// everything is a table with a field of each kind and meaning.
func everything() *wire.Header {
	spec := &gadget.Spec{Name: "top_all", Description: "all", Source: gadget.Source{Kind: gadget.Table, KeySize: 8, Size: 128}}
	offset := uint32(0)
	add := func(name string, size, elem uint32, kind gadget.Kind, semantic gadget.Semantic) {
		spec.Source.Fields = append(spec.Source.Fields, gadget.Field{
			Name: name, Doc: name, Offset: offset, Size: size, Elem: elem, Kind: kind, Semantic: semantic,
			Values: []gadget.EnumValue{{Name: "us"}, {Name: "ms", Value: 1}},
		})
		offset += size
	}
	add("timestamp", 8, 0, gadget.Uint, gadget.Timestamp)
	add("n", 8, 0, gadget.Uint, "")
	add("took", 8, 0, gadget.Uint, gadget.Duration)
	add("signed", 4, 0, gadget.Int, "")
	add("yes", 1, 0, gadget.Bool, "")
	add("comm", 7, 0, gadget.String, "")
	add("unit", 4, 0, gadget.Enum, "")
	add("addr", 20, 0, gadget.IP, "")
	add("slots", 16, 4, gadget.Slots, gadget.Log2)
	add("path", 4, 0, gadget.Tail, "")
	add("args", 4, 0, gadget.Tail, gadget.Args)
	add("errno", 4, 0, gadget.Uint, gadget.Errno)
	add("nr", 4, 0, gadget.Uint, gadget.Syscall)
	add("flags", 4, 0, gadget.Uint, gadget.OpenFlags)
	return &wire.Header{Gadget: wire.FromSpec(spec), Node: &wire.Node{Name: "n", Arch: "x86_64"}}
}

// FuzzRecord: whatever a record has, every output can take it, and shows nothing that
// a terminal would obey.
func FuzzRecord(f *testing.F) {
	f.Add(bytes.Repeat([]byte{1, 0x1b, 0xff, 0}, 40), "shop")
	f.Add(append(make([]byte, 96), "\x60\x00\x04\x00a b=\"\x7f"...), "")
	f.Add([]byte{}, "x")
	logs, err := newLogs(everything(), Session{Name: "s"})
	require.NoError(f, err)
	lines, err := newLines(everything())
	require.NoError(f, err)
	labels := []string{"comm", "path", "args", "unit", "addr", "error", "nr_name", "flags_names"}
	table, err := newTable(logs.decoder, &MetricsOptions{Labels: labels, MaxSeries: 100})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, record []byte, name string) {
		if !utf8.ValidString(name) {
			return
		}
		at := &place{}
		at.Pod = name
		r := logs.record(at, at, record)
		_, err := proto.Marshal(r)
		require.NoError(t, err)
		control := strings.IndexFunc(r.GetBody().GetStringValue(), func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 })
		require.Negative(t, control, "%q", r.GetBody().GetStringValue())
		text, err := lines.of(&wire.Batch{Count: 1, Records: wire.AppendRecord(nil, 0, record)})
		require.NoError(t, err)
		require.Equal(t, len(text)-1, bytes.IndexByte(text, '\n'), "one line for each record")

		clear(table.series)
		for range 3 {
			table.add(time.Now(), at, record)
		}
		require.NotPanics(t, func() { table.collect() })
		for _, s := range table.series {
			for _, label := range s.labels[len(fixedLabels):] {
				require.True(t, utf8.ValidString(label))
				require.LessOrEqual(t, len(label), maxLabel)
			}
		}
	})
}
