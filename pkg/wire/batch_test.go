// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// framed is a batch of records, each of container i+1.
func framed(records ...string) *Batch {
	b := &Batch{}
	for i, record := range records {
		b.Records = AppendRecord(b.Records, uint32(i+1), []byte(record))
		b.Count++
	}
	return b
}

// header is the frame of a record that claims a length.
func header(length uint32) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, length), 1, 0, 0, 0)
}

func TestBatchFraming(t *testing.T) {
	for _, test := range []struct {
		name  string
		batch *Batch
		want  []string
		bad   bool
	}{
		{"nil", nil, nil, false},
		{"empty", &Batch{}, nil, false},
		{"one record", framed("abc"), []string{"abc"}, false},
		{"several records", framed("a", "bc", "def"), []string{"a", "bc", "def"}, false},
		{"empty records", framed("", "x", ""), []string{"", "x", ""}, false},
		{"count too low", &Batch{Count: 1, Records: framed("a", "b").Records}, nil, true},
		{"count too high", &Batch{Count: 3, Records: framed("a", "b").Records}, nil, true},
		{"count without records", &Batch{Count: 1}, nil, true},
		{"records without count", &Batch{Records: framed("a").Records}, nil, true},
		{"half a frame", &Batch{Records: []byte{1, 0, 0}}, nil, true},
		{"half a frame after a record", &Batch{Count: 1, Records: append(framed("a").Records, 0, 0, 0, 0, 0, 0, 0)}, nil, true},
		{"record cut", &Batch{Count: 1, Records: framed("abc").Records[:frame+2]}, nil, true},
		{"length past the end", &Batch{Count: 1, Records: append(header(2), 'a')}, nil, true},
		{"length of everything", &Batch{Count: 1, Records: header(math.MaxUint32)}, nil, true},
		{"length that wraps around", &Batch{Count: 1, Records: header(math.MaxUint32 - frame + 1)}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.batch.Check()
			if test.bad {
				require.ErrorIs(t, err, ErrFraming)
				return
			}
			require.NoError(t, err)
			var got []string
			for container, record := range test.batch.All() {
				got = append(got, string(record))
				require.EqualValues(t, len(got), container)
				require.Len(t, record, cap(record), "appending to a record would write into the next one")
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestIterationCanEndEarly(t *testing.T) {
	n := 0
	for range framed("a", "b", "c").All() {
		if n++; n == 2 {
			break
		}
	}
	require.Equal(t, 2, n)
}

func TestAppendRecordDoesNotAllocate(t *testing.T) {
	records := make([]byte, 0, 4096)
	record := make([]byte, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		records = records[:0]
		for range 30 {
			records = AppendRecord(records, 7, record)
		}
	}))
}

func TestReadingABatchDoesNotAllocate(t *testing.T) {
	b := framed("a", "bc", "def")
	total := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if b.Check() != nil {
			return
		}
		for _, record := range b.All() {
			total += len(record)
		}
	}))
	require.NotZero(t, total)
}

func BenchmarkAppendRecord(b *testing.B) {
	b.ReportAllocs()
	records, record := make([]byte, 0, 16<<10), make([]byte, 100)
	for b.Loop() {
		if len(records)+frame+len(record) > cap(records) {
			records = records[:0]
		}
		records = AppendRecord(records, 7, record)
	}
}

func BenchmarkReadBatch(b *testing.B) {
	b.ReportAllocs()
	batch := &Batch{}
	for range 64 {
		batch.Records = AppendRecord(batch.Records, 7, make([]byte, 100))
		batch.Count++
	}
	for b.Loop() {
		if err := batch.Check(); err != nil {
			b.Fatal(err)
		}
		for _, record := range batch.All() {
			_ = record
		}
	}
}

// FuzzBatch: a batch that passes Check is read to its last byte, and no other.
func FuzzBatch(f *testing.F) {
	for _, b := range []*Batch{{}, framed("a"), framed("", "bc", "def"), {Count: 1, Records: header(math.MaxUint32)}} {
		f.Add(b.GetCount(), b.GetRecords())
	}
	f.Fuzz(func(t *testing.T, count uint32, records []byte) {
		b := &Batch{Count: count, Records: records}
		if b.Check() != nil {
			return
		}
		var again []byte
		n := uint32(0)
		for container, record := range b.All() {
			again = AppendRecord(again, container, record)
			n++
		}
		require.Equal(t, count, n)
		require.True(t, bytes.Equal(records, again), "framing records again gives other bytes")
	})
}

func TestCutLeavesTheFirstRecords(t *testing.T) {
	for n := range uint32(4) {
		b := &Batch{Count: 3, Targets: []uint32{7, 8, 9}}
		for i := range 3 {
			b.Records = AppendRecord(b.Records, uint32(i), make([]byte, i))
		}
		b.Cut(n)
		require.NoError(t, b.Check())
		require.EqualValues(t, n, b.Count)
		require.Len(t, b.Targets, int(n))
	}
}
