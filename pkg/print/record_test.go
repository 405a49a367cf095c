// SPDX-License-Identifier: Apache-2.0

package print_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// boot is the node's boot time in all tests.
var boot = time.Date(2026, time.November, 3, 12, 0, 0, 0, time.UTC)

// values are what a test's record holds, by field. What isn't named is zero.
type values map[string]any

// layout gives fields offsets, one after the other, and makes a source of them.
func layout(kind gadget.SourceKind, fields ...gadget.Field) gadget.Source {
	source := gadget.Source{Kind: kind, Map: "events"}
	for _, f := range fields {
		if f.Size == 0 {
			f.Size = map[gadget.Kind]uint32{gadget.Tail: 4, gadget.IP: 20, gadget.Bool: 1, gadget.Enum: 4}[f.Kind]
		}
		f.Offset = source.Size
		source.Size += f.Size
		source.Fields = append(source.Fields, f)
	}
	return source
}

// encode writes a record as the kernel would.
func encode(tb testing.TB, source gadget.Source, v values) []byte {
	tb.Helper()
	record := make([]byte, source.Size)
	for name := range v {
		_, err := event.NewSchema(source, event.Options{}).Column(name)
		require.NoError(tb, err)
	}
	for i := range source.Fields {
		f := &source.Fields[i]
		slot := record[f.Offset:][:f.Size]
		switch value := v[f.Name].(type) {
		case nil:
		case string:
			if f.Kind != gadget.Tail {
				copy(slot, value)
				continue
			}
			binary.LittleEndian.PutUint16(slot, uint16(len(record)))
			binary.LittleEndian.PutUint16(slot[2:], uint16(len(value)))
			record = append(record, value...)
		case []string:
			text := strings.Join(value, "\x00") + "\x00"
			binary.LittleEndian.PutUint16(slot, uint16(len(record)))
			binary.LittleEndian.PutUint16(slot[2:], uint16(len(text)))
			record = append(record, text...)
		case bool:
			slot[0] = map[bool]byte{true: 1}[value]
		case int:
			putNumber(slot, uint64(value))
		case uint64:
			putNumber(slot, value)
		case time.Duration:
			putNumber(slot, uint64(value))
		case netip.Addr:
			putAddr(slot, value)
		case []uint64:
			for i, n := range value {
				putNumber(slot[i*int(f.Elem):][:f.Elem], n)
			}
		default:
			require.Fail(tb, "value", "field %s: %T", f.Name, value)
		}
	}
	return record
}

func putNumber(slot []byte, n uint64) {
	for i := range slot {
		slot[i] = byte(n >> (8 * i))
	}
}

func putAddr(slot []byte, addr netip.Addr) {
	family := uint32(10)
	if addr.Is4() {
		family = 2
	}
	binary.LittleEndian.PutUint32(slot, family)
	copy(slot[4:], addr.AsSlice())
}

func number(name string, size uint32) gadget.Field {
	return gadget.Field{Name: name, Doc: "a number", Kind: gadget.Uint, Size: size}
}

// with changes a field, to keep the tables of fields short.
func with(f gadget.Field, change func(f *gadget.Field)) gadget.Field {
	change(&f)
	return f
}

func hidden(f gadget.Field) gadget.Field {
	return with(f, func(f *gadget.Field) { f.Hidden = true })
}

func wide(width int, f gadget.Field) gadget.Field {
	return with(f, func(f *gadget.Field) { f.Width = width })
}

func means(semantic gadget.Semantic, f gadget.Field) gadget.Field {
	return with(f, func(f *gadget.Field) { f.Semantic = semantic })
}

func text(name string) gadget.Field {
	return gadget.Field{Name: name, Doc: "a text", Kind: gadget.Tail}
}

func chars(name string, size uint32) gadget.Field {
	return gadget.Field{Name: name, Doc: "a text", Kind: gadget.String, Size: size}
}

// taskFields are what every event begins with.
func taskFields() []gadget.Field {
	return []gadget.Field{
		means(gadget.Timestamp, number("timestamp", 8)),
		means(gadget.Cgroup, hidden(number("cgroup_id", 8))),
		means(gadget.MountNS, hidden(number("mntns_id", 8))),
		wide(7, number("pid", 4)),
		wide(7, hidden(number("tid", 4))),
		wide(6, hidden(number("uid", 4))),
		wide(6, hidden(number("gid", 4))),
		wide(16, chars("comm", 16)),
	}
}

// openSource is laid out like trace_open's.
func openSource() gadget.Source {
	return layout(gadget.Events, append(
		taskFields(),
		gadget.Field{Name: "fd", Kind: gadget.Int, Size: 4, Width: 4},
		means(gadget.Errno, number("errno", 4)),
		wide(22, means(gadget.OpenFlags, number("flags", 4))),
		hidden(means(gadget.Mode, number("mode", 4))),
		wide(40, text("path")),
		wide(40, hidden(text("full_path"))),
		gadget.Field{
			Name: "path_from", Kind: gadget.Enum, Size: 4, Hidden: true,
			Values: []gadget.EnumValue{{Name: "USER_COPY"}, {Name: "KERNEL_COPY", Value: 1}},
		},
	)...)
}

func openValues() values {
	return values{
		"timestamp": 90*time.Minute + 1234567*time.Nanosecond, "cgroup_id": 4711, "mntns_id": 4026531840,
		"pid": 31337, "tid": 31338, "uid": 1000, "gid": 1000, "comm": "nginx", "fd": 7, "flags": 0o2000000,
		"path": "/usr/share/nginx/html/index.html", "full_path": "/usr/share/nginx/html/index.html", "path_from": 1,
	}
}

func schemaOf(source gadget.Source) *event.Schema {
	return event.NewSchema(source, event.Options{Arch: "x86_64", BootTime: boot})
}

func pod() *print.Origin {
	return &print.Origin{
		Node: "worker-1", Namespace: "shop", Pod: "web-6d4cf56db6-x7k2p", Container: "nginx",
		ContainerID: strings.Repeat("0123456789abcdef", 4), Image: "docker.io/library/nginx:1.29",
	}
}

// show prints records in one go. Tables and snapshots are one interval.
func show(tb testing.TB, source gadget.Source, opts print.Options, rows ...print.Row) string {
	tb.Helper()
	var out strings.Builder
	if opts.Location == nil {
		opts.Location = time.UTC
	}
	p, err := print.New(&out, schemaOf(source), opts)
	require.NoError(tb, err)
	if source.Kind != gadget.Events {
		require.NoError(tb, p.Interval(rows))
		return out.String()
	}
	for _, row := range rows {
		p.Record(row.Origin, row.Record)
	}
	require.NoError(tb, p.Flush())
	return out.String()
}
