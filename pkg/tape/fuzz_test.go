// SPDX-License-Identifier: Apache-2.0

package tape_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// kept is a record with its number.
type kept struct {
	number uint64
	ref    uint32
	record string
}

// read is all that a reader gets at once.
func read(t *testing.T, r *tape.Reader) []kept {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var all []kept
	for {
		m, err := r.Next(ended)
		if err != nil {
			return all
		}
		if m.GetBatch() == nil {
			continue
		}
		require.NoError(t, m.GetBatch().Check())
		number := m.GetBatch().GetSequence()
		for ref, record := range m.GetBatch().All() {
			all = append(all, kept{number, ref, string(record)})
			number++
		}
	}
}

// FuzzSplit: wherever batches are split, the reader gets exactly the records that it
// has asked for, under the numbers that they have.
func FuzzSplit(f *testing.F) {
	f.Add(made(1, 5, 9, 3).Records, made(2, 7).Records, int64(4), uint64(2), 0)
	f.Add(made(0, 1, 2, 3, 4).Records, []byte{}, int64(0), uint64(3), 0)
	f.Add(wire.AppendRecord(nil, 9, []byte("short")), made(1, -1, 1<<62).Records, int64(1), uint64(0), 1)
	f.Fuzz(func(t *testing.T, first, second []byte, since int64, tail uint64, offset int) {
		var all []kept
		tp := tape.New(tape.Options{Records: 1 << 30, Bytes: 1 << 30, Clock: &tape.Clock{Offset: offset % 64}})
		for _, records := range [][]byte{first, second} {
			b := &wire.Batch{Records: bytes.Clone(records)}
			for b.Check() != nil && b.Count < 64 {
				b.Count++
			}
			if b.Check() != nil {
				return
			}
			for ref, record := range b.All() {
				all = append(all, kept{uint64(len(all)), ref, string(record)})
			}
			tp.Append(b, nil)
		}
		require.Equal(t, all, read(t, tp.Read(tape.From{})))
		var want []kept
		if tail == 0 || tail > uint64(len(all)) {
			tail = uint64(len(all))
		}
		for _, k := range all[uint64(len(all))-tail:] {
			at := int64(1) << 60
			if o := offset % 64; o >= 0 && len(k.record) >= o+8 {
				at = min(at, int64(binary.LittleEndian.Uint64([]byte(k.record)[o:])))
			}
			if since == 0 || at > since {
				want = append(want, k)
			}
		}
		if since < 1<<60 {
			require.Equal(t, want, read(t, tp.Read(tape.From{Since: since, Tail: tail})))
		}
	})
}
