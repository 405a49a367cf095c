// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// rowSource has rows of a name, a signed and an unsigned number, slots and flags.
var rowSource = gadget.Source{
	Kind: gadget.Table, Map: "rows", Size: 36,
	Fields: []gadget.Field{
		{Name: "name", Doc: "name", Offset: 0, Size: 4, Kind: gadget.String},
		{Name: "delta", Doc: "delta", Offset: 4, Size: 4, Kind: gadget.Int},
		{Name: "count", Doc: "count", Offset: 8, Size: 8, Kind: gadget.Uint},
		{Name: "slots", Doc: "slots", Offset: 16, Size: 16, Kind: gadget.Slots, Elem: 8},
		{Name: "errno", Doc: "errno", Offset: 32, Size: 4, Kind: gadget.Uint, Semantic: gadget.Errno},
	},
}

type row struct {
	name  string
	delta int32
	count uint64
	slots [2]uint64
	errno uint32
}

func (r row) record() []byte {
	record := make([]byte, rowSource.Size)
	copy(record[:4], r.name)
	binary.LittleEndian.PutUint32(record[4:], uint32(r.delta))
	binary.LittleEndian.PutUint64(record[8:], r.count)
	binary.LittleEndian.PutUint64(record[16:], r.slots[0])
	binary.LittleEndian.PutUint64(record[24:], r.slots[1])
	binary.LittleEndian.PutUint32(record[32:], r.errno)
	return record
}

func TestSortRows(t *testing.T) {
	rows := []row{
		{name: "b", delta: -5, count: 3, slots: [2]uint64{1, 1}, errno: 2},
		{name: "a", delta: 7, count: math.MaxUint64, slots: [2]uint64{0, 9}, errno: 13},
		{name: "c", delta: 0, count: 3, slots: [2]uint64{5, 0}},
		{name: "a", delta: -6, count: 3, slots: [2]uint64{5, 0}, errno: 1},
	}
	for _, test := range []struct {
		name string
		keys []string
		want []int
	}{
		{"as it comes", nil, []int{0, 1, 2, 3}},
		{"numbers", []string{"count"}, []int{0, 2, 3, 1}},
		{"numbers descending keep the order of equals", []string{"-count"}, []int{1, 0, 2, 3}},
		{"signed numbers", []string{"delta"}, []int{3, 0, 2, 1}},
		{"texts", []string{"name"}, []int{1, 3, 0, 2}},
		{"texts descending", []string{"-name"}, []int{2, 0, 1, 3}},
		{"slots by their sum", []string{"-slots"}, []int{1, 2, 3, 0}},
		{"by what is readable", []string{"error"}, []int{2, 1, 0, 3}},
		{"two keys", []string{"count", "-delta"}, []int{2, 0, 3, 1}},
		{"three keys", []string{"-count", "name", "delta"}, []int{1, 3, 0, 2}},
		{"same key twice", []string{"name", "-name"}, []int{1, 3, 0, 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := sortKeys(event.NewSchema(rowSource, event.Options{}), test.keys)
			require.NoError(t, err)
			var given []entry
			index := map[*byte]int{}
			for i, r := range rows {
				record := r.record()
				index[&record[0]] = i
				given = append(given, entry{Row: print.Row{Record: record}, order: keys})
			}
			sortRows(given)
			var got []int
			for _, r := range given {
				got = append(got, index[&r.Record[0]])
			}
			require.Equal(t, test.want, got)
		})
	}
}

// TestRowsWithoutAValueSortAsZero: an order that isn't one would depend on the
// order of the rows.
func TestRowsWithoutAValueSortAsZero(t *testing.T) {
	whole, short := row{name: "x", delta: -1, count: 5, slots: [2]uint64{1, 1}, errno: 1}.record(), []byte{}
	schema := event.NewSchema(rowSource, event.Options{})
	for _, column := range schema.Columns {
		there, back := compare(column, whole, column, short), compare(column, short, column, whole)
		require.Equal(t, there, -back, column.Name)
		require.NotZero(t, there, column.Name)
		require.Zero(t, compare(column, short, column, short), column.Name)
	}
}

func TestSortByUnknownFieldIsAnError(t *testing.T) {
	_, err := sortKeys(event.NewSchema(rowSource, event.Options{}), []string{"--count"})
	require.ErrorContains(t, err, `unknown field "-count", known are: name, delta, count, slots, errno, error`)
}

func TestThousands(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 999999: "999,999", 1000000: "1,000,000",
		math.MaxUint64: "18,446,744,073,709,551,615",
	} {
		require.Equal(t, want, thousands(n))
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"1": 1, "65536": 65536, "512Ki": 512 << 10, "4Mi": 4 << 20, "1Gi": 1 << 30, "4294967295Gi": 4294967295 << 30,
	} {
		var b byteSize
		require.NoError(t, b.Set(text), text)
		require.EqualValues(t, want, b)
		require.Equal(t, "bytes", b.Type())
		var again byteSize
		require.NoError(t, again.Set(b.String()[:min(len(b.String()), 9)]))
	}
	for _, text := range []string{"", "0", "0Mi", "-1", "Mi", "4mi", "4M", "4MB", "4 Mi", "4.5Mi", "0x10", "1e6", "99999999999999999999", "4MiMi"} {
		var b byteSize
		require.ErrorContains(t, b.Set(text), "is not a number of bytes, such as 65536, 512Ki or 4Mi", text)
		require.Zero(t, b)
	}
	require.Empty(t, new(byteSize).String())
}
