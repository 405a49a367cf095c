// SPDX-License-Identifier: Apache-2.0

package tape_test

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// seen is what a reader has counted.
type seen struct {
	records, gaps, markers, missed uint64
}

// follow reads to the end, and checks that all is in order.
func follow(t *testing.T, r *tape.Reader, slow time.Duration) seen {
	var s seen
	names, next, first := map[uint32]bool{}, uint64(0), true
	for {
		m, err := r.Next(t.Context())
		if err != nil {
			assert.ErrorIs(t, err, io.EOF)
			s.missed = r.Missed()
			return s
		}
		if m.GetReplayed() != nil {
			s.markers++
		}
		for _, c := range m.GetContainers().GetContainers() {
			names[c.GetRef()] = true
		}
		if b := m.GetBatch(); b != nil {
			if !first {
				s.gaps += b.GetSequence() - next
			}
			first = false
			assert.NoError(t, b.Check())
			number := b.GetSequence()
			for ref, record := range b.All() {
				assert.True(t, names[ref], "reference %d is used before it is explained", ref)
				assert.Equal(t, number, binary.LittleEndian.Uint64(record))
				number++
			}
			next = number
			s.records += uint64(b.GetCount())
		}
		if slow > 0 {
			time.Sleep(slow)
		}
	}
}

func TestManyReaders(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const batches, size = 3000, 10
	tp := tape.New(tape.Options{Records: 50 * size})
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			time.Sleep(time.Duration(i%4) * time.Millisecond)
			from := tape.From{Live: i%3 == 1}
			if i%3 == 2 {
				from.Tail = 7
			}
			s := follow(t, tp.Read(from), time.Duration(i%5/4)*time.Millisecond)
			assert.EqualValues(t, 1, s.markers)
			// What is missed before the first batch is no gap.
			assert.GreaterOrEqual(t, s.missed, s.gaps)
			assert.LessOrEqual(t, s.records+s.missed, uint64(batches*size))
		})
	}
	all := tp.Read(tape.From{})
	wg.Go(func() {
		s := follow(t, all, 0)
		assert.EqualValues(t, batches*size, s.records+s.missed, "read and missed are all that was made")
	})
	wg.Go(func() {
		for range 1000 {
			tp.Stats()
			all.Missed()
		}
	})
	for i := range int64(batches) {
		ref := uint32(i%40 + 1)
		var explain []*wire.Container
		if i < 40 || i%100 == 0 {
			explain = append(explain, container(ref, "c"))
		}
		assert.True(t, tp.Append(numbered(ref, i*size, (i+1)*size), explain))
		if i%50 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	tp.Close()
	wg.Wait()
}

// TestTheWriterNeverWaits: readers that don't read cost the writer nothing, and those
// that are given up leave nothing behind.
func TestTheWriterNeverWaits(t *testing.T) {
	tp := tape.New(tape.Options{Records: 100})
	for range 100 {
		tp.Read(tape.From{})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(10_000) {
			tp.Append(made(0, i), nil)
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		require.NoError(t, errors.New("the writer waits"))
	}
}

func TestAppendAllocatesTheCopyOnly(t *testing.T) {
	tp := tape.New(tape.Options{Records: 1000})
	batch, explain := numbered(5, 0, 100), []*wire.Container{container(5, "c")}
	for range 100 {
		tp.Append(batch, explain)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { tp.Append(batch, nil) }), "what fell out is used again")
	r := tp.Read(tape.From{})
	allocs := testing.AllocsPerRun(1000, func() {
		tp.Append(batch, nil)
		_, _ = r.Next(t.Context())
	})
	require.LessOrEqual(t, allocs, 7.0)
}

// TestWhatAReaderHasIsNotUsedAgain: a batch stays as it is, also when it has fallen out.
func TestWhatAReaderHasIsNotUsedAgain(t *testing.T) {
	tp := tape.New(tape.Options{Records: 20})
	r := tp.Read(tape.From{Live: true})
	var got []*wire.Batch
	for i := range int64(50) {
		tp.Append(numbered(0, i*10, i*10+10), nil)
		if i%3 == 2 {
			for range 2 {
				m, err := r.Next(t.Context())
				require.NoError(t, err)
				got = append(got, m.GetBatch())
			}
		}
	}
	require.Greater(t, len(got), 20)
	for _, b := range got {
		number := b.GetSequence()
		for _, record := range b.All() {
			require.Equal(t, number, binary.LittleEndian.Uint64(record))
			number++
		}
	}
}
