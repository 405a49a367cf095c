// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

// numbered is a record of a size that holds its number.
func numbered(n uint64, size int) []byte {
	record := make([]byte, max(size, 8))
	binary.LittleEndian.PutUint64(record, n)
	return record
}

// take returns the batches that wait.
func take(q *queue) []*parcel {
	var batches []*parcel
	for {
		select {
		case b := <-q.batches:
			batches = append(batches, b)
		default:
			return batches
		}
	}
}

func counts(batches []*parcel) []uint32 {
	var n []uint32
	for _, b := range batches {
		n = append(n, b.GetCount())
	}
	return n
}

func TestBatchIsSentWhenItIsFull(t *testing.T) {
	for _, test := range []struct {
		name     string
		interval bool
		records  int
		size     int
		want     []uint32
		waiting  uint32
	}{
		{"few small records wait", false, batchRecords - 1, 100, nil, batchRecords - 1},
		{"as many as a batch has", false, batchRecords, 100, []uint32{batchRecords}, 0},
		{"more than two batches", false, 2*batchRecords + 3, 100, []uint32{batchRecords, batchRecords}, 3},
		{"few large records", false, 4, batchBytes / 2, []uint32{2, 2}, 0},
		{"one huge record", false, 1, 4 * batchBytes, []uint32{1}, 0},
		{"rows of a table wait for the end", true, 2 * batchRecords, 100, nil, 2 * batchRecords},
		{"a large table takes several messages", true, 9, intervalBytes / 4, []uint32{4, 4}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := newQueue(DefaultQueueSize, nil, test.interval)
			for i := range test.records {
				q.add(0, 0, numbered(uint64(i), test.size))
			}
			require.Equal(t, test.want, counts(take(q)))
			require.Equal(t, test.waiting, q.current.Count)
			require.EqualValues(t, test.records, q.sequence)
		})
	}
}

func TestFlushSendsWhatThereIs(t *testing.T) {
	q := newQueue(DefaultQueueSize, nil, false)
	q.flush()
	require.Empty(t, take(q), "an empty batch says nothing")
	q.add(0, 0, numbered(0, 8))
	q.flush()
	q.flush()
	batches := take(q)
	require.Equal(t, []uint32{1}, counts(batches))
	require.False(t, batches[0].IntervalEnd)
}

func TestEveryIntervalHasAnEnd(t *testing.T) {
	q := newQueue(DefaultQueueSize, nil, true)
	q.flush()
	for i := range 5 {
		q.add(0, 0, numbered(uint64(i), intervalBytes/2))
	}
	q.flush()
	q.add(0, 0, numbered(5, 8))
	q.flush()
	batches := take(q)
	require.Equal(t, []uint32{0, 2, 2, 1, 1}, counts(batches))
	var ends []bool
	var sequence []uint64
	for _, b := range batches {
		require.NoError(t, b.Check())
		ends, sequence = append(ends, b.IntervalEnd), append(sequence, b.Sequence)
	}
	require.Equal(t, []bool{true, false, false, true, true}, ends)
	require.Equal(t, []uint64{0, 0, 2, 4, 5}, sequence)
}

// TestLostIntervalStillEnds: without its end a client would show the rows of two
// intervals as one.
func TestLostIntervalStillEnds(t *testing.T) {
	q := newQueue(4096, nil, true)
	for interval := range 3 {
		for i := range 3 {
			q.add(0, 0, numbered(uint64(3*interval+i), 1000))
		}
		q.flush()
	}
	batches := take(q)
	require.Equal(t, []uint32{3, 0, 0}, counts(batches))
	for _, b := range batches {
		require.True(t, b.IntervalEnd)
	}
	require.Equal(t, []uint64{0, 6, 9}, []uint64{batches[0].Sequence, batches[1].Sequence, batches[2].Sequence})
	require.EqualValues(t, 6, q.lost.Load())
}

// TestExplanationsComeBeforeTheirUse: with the batch that needs them, and if that has
// to be dropped, the enricher is asked to explain again.
func TestExplanationsComeBeforeTheirUse(t *testing.T) {
	first, second := &container.Container{Ref: 1}, &container.Container{Ref: 2}
	q := newQueue(4096, nil, false)
	again := 0
	q.unexplained = func() { again++ }
	q.explain(first)
	q.add(1, 0, numbered(0, 8))
	q.flush()
	q.explain(second)
	q.flush()
	for i := range uint64(100) {
		q.add(1, 0, numbered(i, 8))
		q.flush()
	}
	require.Zero(t, again, "what is dropped explains nothing")
	q.explain(second)
	q.add(2, 0, numbered(0, 4096))
	q.flush()
	require.Equal(t, 1, again)
	parcels := take(q)
	require.Equal(t, []*container.Container{first}, parcels[0].containers)
	require.Equal(t, []*container.Container{second}, parcels[1].containers)
	require.Zero(t, parcels[1].Count, "news come alone if nothing else does")
	for _, p := range parcels[2:] {
		require.Empty(t, p.containers)
	}
	for _, p := range parcels {
		q.recycle(p)
	}
	require.Zero(t, q.waiting.Load())
}

func TestExplanationsAreBounded(t *testing.T) {
	q := newQueue(100<<10, nil, false)
	for i := range uint32(10_000) {
		q.explain(&container.Container{Ref: i})
		q.flush()
	}
	explained := 0
	for _, p := range take(q) {
		explained += len(p.containers)
	}
	require.NotZero(t, explained)
	require.LessOrEqual(t, explained, 100)
}

func TestTargetsOfABatch(t *testing.T) {
	for _, test := range []struct {
		name          string
		targets, want []uint32
	}{
		{"none", []uint32{0, 0, 0}, nil},
		{"all", []uint32{1, 2, 3}, []uint32{1, 2, 3}},
		{"some", []uint32{0, 0, 2, 0, 3, 0}, []uint32{0, 0, 2, 0, 3, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := newQueue(DefaultQueueSize, nil, false)
			for range 2 {
				for i, target := range test.targets {
					q.add(9, target, numbered(uint64(i), 8))
				}
				q.flush()
				for _, p := range take(q) {
					require.Equal(t, test.want, slices.Clone(p.Targets))
					require.NoError(t, p.Check())
					for ref := range p.All() {
						require.EqualValues(t, 9, ref)
					}
					q.recycle(p)
				}
			}
		})
	}
}

func TestFilteredRecordsAreNotCounted(t *testing.T) {
	schema := event.NewSchema(gadget.Source{Size: 8, Fields: []gadget.Field{{Name: "n", Size: 8, Kind: gadget.Uint}}}, event.Options{})
	filter, err := event.CompileFilter(schema, "n % 10 == 3")
	require.NoError(t, err)
	q := newQueue(DefaultQueueSize, filter, false)
	for i := range 100 {
		q.add(0, 0, numbered(uint64(i), 8))
	}
	q.flush()
	batches := take(q)
	require.Equal(t, []uint32{10}, counts(batches))
	require.EqualValues(t, 10, q.sequence)
	for _, record := range batches[0].All() {
		require.EqualValues(t, 3, binary.LittleEndian.Uint64(record)%10)
	}
}

// TestDeliveredAndLostAreWhatWasAdded fills queues of all sizes that nobody reads.
func TestDeliveredAndLostAreWhatWasAdded(t *testing.T) {
	for _, size := range []int{1, 500, 4096, 100_000, 1 << 20} {
		for _, interval := range []bool{false, true} {
			q := newQueue(size, nil, interval)
			const added = 20_000
			for i := range added {
				q.add(0, 0, numbered(uint64(i), 64))
				if i%1000 == 0 {
					q.flush()
				}
			}
			q.flush()
			delivered, bytes := uint64(0), 0
			for _, b := range take(q) {
				require.NoError(t, b.Check())
				for _, record := range b.All() {
					require.Equal(t, b.Sequence, binary.LittleEndian.Uint64(record), "sequence is the record's number")
					break
				}
				delivered += uint64(b.Count)
				bytes += len(b.Records)
			}
			require.EqualValues(t, added, delivered+q.lost.Load(), "size %d", size)
			require.NotZero(t, delivered, "one batch goes even if it is larger than the queue")
			require.LessOrEqual(t, bytes, max(size, intervalBytes+batchBytes))
		}
	}
}

// TestNothingIsLostWhileThereIsRoom, not a single record.
func TestNothingIsLostWhileThereIsRoom(t *testing.T) {
	q := newQueue(1<<20, nil, false)
	for i := range 100_000 {
		q.add(0, 0, numbered(uint64(i), 64))
		for _, b := range take(q) {
			q.recycle(b)
		}
	}
	require.Zero(t, q.lost.Load())
	require.Zero(t, q.waiting.Load())
}

// TestWaitingBatchesTakeTheMemoryThatTheyAreCountedWith: a client that has
// stopped gets a batch of one record every 20 ms.
func TestWaitingBatchesTakeTheMemoryThatTheyAreCountedWith(t *testing.T) {
	const limit = 1 << 20
	q := newQueue(limit, nil, false)
	for i := range 50_000 {
		q.add(0, 0, numbered(uint64(i), 100))
		q.flush()
	}
	memory := 0
	for _, b := range take(q) {
		memory += cap(b.Records)
	}
	require.LessOrEqual(t, memory, 3*limit)
}

func TestConcurrentReaderGetsEachRecordOnceAndInOrder(t *testing.T) {
	q := newQueue(64<<10, nil, false)
	const added = 200_000
	var delivered uint64
	var reader sync.WaitGroup
	reader.Add(1)
	var failure string
	go func() {
		defer reader.Done()
		next := uint64(0)
		for b := range q.batches {
			if b.Check() != nil || b.Sequence < next {
				failure = "batch is damaged or out of order"
			}
			n := b.Sequence
			for _, record := range b.All() {
				if binary.LittleEndian.Uint64(record) != n {
					failure = "record isn't the one that was added"
				}
				n++
			}
			next = n
			delivered += uint64(b.Count)
			q.recycle(b)
		}
	}()
	record := numbered(0, 64)
	for i := range uint64(added) {
		binary.LittleEndian.PutUint64(record, i)
		q.add(0, 0, record)
		if i%1001 == 0 {
			q.flush()
		}
	}
	q.flush()
	q.close()
	reader.Wait()
	require.Empty(t, failure)
	require.EqualValues(t, added, delivered+q.lost.Load())
	require.EqualValues(t, added, q.sequence)
	require.Zero(t, q.waiting.Load())
}

func TestRecycledBatchIsEmpty(t *testing.T) {
	q := newQueue(1<<20, nil, false)
	q.current.Records = make([]byte, 0, batchBytes)
	q.add(0, 0, numbered(1, 8))
	q.current.IntervalEnd = true
	q.push()
	b := <-q.batches
	q.recycle(b)
	again := <-q.spare
	require.Same(t, b, again)
	require.Empty(t, again.Records)
	require.NotZero(t, cap(again.Records), "its memory is what it is recycled for")
	require.Zero(t, again.Count)
	require.Zero(t, again.Sequence)
	require.False(t, again.IntervalEnd)
	require.Zero(t, q.waiting.Load())

	huge := &parcel{}
	huge.Records = make([]byte, 4*batchBytes)
	q.waiting.Add(4 * batchBytes)
	q.recycle(huge)
	require.Empty(t, q.spare, "a huge batch's memory is given back")
}

func TestQueueDoesNotAllocateWhenTheClientKeepsUp(t *testing.T) {
	q := newQueue(1<<20, nil, false)
	record := numbered(0, 100)
	work := func() {
		for range batchRecords {
			q.add(0, 0, record)
		}
		q.recycle(<-q.batches)
	}
	work()
	require.Zero(t, testing.AllocsPerRun(100, work))
}

// BenchmarkQueue is the cost of one record on its way through the queue.
func BenchmarkQueue(b *testing.B) {
	for _, bench := range []struct {
		name   string
		size   int
		reader bool
	}{{"100 bytes", 100, true}, {"1000 bytes", 1000, true}, {"nobody reads", 100, false}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			q := newQueue(1<<20, nil, false)
			record := numbered(0, bench.size)
			b.SetBytes(int64(bench.size))
			for b.Loop() {
				q.add(0, 0, record)
				for bench.reader && len(q.batches) > 0 {
					q.recycle(<-q.batches)
				}
			}
		})
	}
}
