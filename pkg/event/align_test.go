// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
)

func TestAlignReadsByName(t *testing.T) {
	field := func(name string, offset, size uint32, kind gadget.Kind, semantic gadget.Semantic) gadget.Field {
		return gadget.Field{Name: name, Offset: offset, Size: size, Kind: kind, Semantic: semantic}
	}
	here := NewSchema(gadget.Source{Fields: []gadget.Field{
		field("timestamp", 0, 8, gadget.Uint, gadget.Timestamp),
		field("pid", 8, 4, gadget.Uint, ""),
		field("errno", 12, 4, gadget.Uint, gadget.Errno),
		field("comm", 16, 16, gadget.String, ""),
		field("args", 32, 4, gadget.Tail, gadget.Args),
		field("size", 36, 4, gadget.Uint, gadget.ByteCount),
	}}, Options{})
	// An older version: another order, a smaller pid, no args; size meant something else,
	// and comm was a number.
	there := here.Align(gadget.Source{Size: 24, Fields: []gadget.Field{
		field("old", 0, 4, gadget.Uint, ""),
		field("pid", 4, 2, gadget.Uint, ""),
		field("size", 6, 2, gadget.Uint, ""),
		field("timestamp", 8, 8, gadget.Uint, gadget.Timestamp),
		field("comm", 16, 4, gadget.Uint, ""),
		field("errno", 20, 4, gadget.Uint, gadget.Errno),
	}}, Options{BootTime: time.Unix(1, 0)})
	require.Equal(t, here.Names(), there.Names())

	record := make([]byte, 24)
	binary.LittleEndian.PutUint16(record[4:], 4711)
	binary.LittleEndian.PutUint16(record[6:], 1)
	binary.LittleEndian.PutUint64(record[8:], 5)
	binary.LittleEndian.PutUint32(record[20:], 2)
	values := map[string]Value{}
	for _, c := range there.Columns {
		values[c.Name] = c.Value(record)
	}
	require.EqualValues(t, 1e9+5, values["timestamp"].Int())
	require.EqualValues(t, 4711, values["pid"].Uint())
	require.EqualValues(t, 2, values["errno"].Uint())
	require.Equal(t, "ENOENT", string(values["error"].Text))
	for _, name := range []string{"comm", "args", "size"} {
		require.Equal(t, Null, values[name].Kind, name)
	}
}
