// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// drainBucket takes all there is.
func drainBucket(b *bucket) (taken int) {
	for b.take(1) > 0 {
		taken++
	}
	return taken
}

func TestBucketHoldsABurstAndFillsAtARate(t *testing.T) {
	begin := time.Now()
	b := newBucket(1000, 50, begin)
	require.Equal(t, 50, drainBucket(b))
	require.EqualValues(t, 1, b.denied.Load())
	b.refill(begin.Add(10 * time.Millisecond))
	require.Equal(t, 10, drainBucket(b))
	b.refill(begin.Add(10 * time.Millisecond))
	require.Zero(t, drainBucket(b), "nothing comes in twice")
	b.refill(begin.Add(1000 * time.Hour))
	require.Equal(t, 50, drainBucket(b), "it holds no more than a burst")
	b.refill(begin.Add(1000*time.Hour + 20*time.Millisecond))
	require.Equal(t, 20, drainBucket(b))
	require.Equal(t, 7, drainBucket(newBucket(7, 0, begin)), "a second's worth")
}

// TestSlowBucketLosesNothing although it is looked at more often than tokens come.
func TestSlowBucketLosesNothing(t *testing.T) {
	for _, rate := range []int64{1, 3, 7, 49, 1000, 33_333, 1_000_000_000} {
		begin := time.Now()
		b := newBucket(rate, rate, begin)
		b.tokens.Store(0)
		for i := range 500 {
			b.refill(begin.Add(time.Duration(i+1) * 2 * time.Millisecond))
		}
		require.InDelta(t, rate, b.tokens.Load(), 1, "%d a second", rate)
	}
}

// TestBucketIsShared among goroutines: together they get no more than it has.
func TestBucketIsShared(t *testing.T) {
	begin := time.Now()
	b := newBucket(1_000_000, 100_000, begin)
	var taken atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 100 {
				b.refill(begin.Add(time.Duration(i+1) * time.Millisecond))
				for range 100 {
					taken.Add(b.take(7))
				}
			}
		})
	}
	wait.Wait()
	left := b.tokens.Load()
	require.GreaterOrEqual(t, left, int64(0))
	require.LessOrEqual(t, left, int64(100_000))
	require.LessOrEqual(t, taken.Load()+left, int64(200_000), "a burst, and what 100 ms bring")
}

func TestQueueLeavesOutWhatItCantAfford(t *testing.T) {
	begin := time.Now()
	own, shared := newBucket(10, 10, begin), newBucket(15, 15, begin)
	rich, poor := newQueue(DefaultQueueSize, nil, false), newQueue(DefaultQueueSize, nil, false)
	rich.buckets, poor.buckets = []*bucket{shared}, []*bucket{own, shared}
	add := func(q *queue, from, to uint64) []int {
		for n := from; n < to; n++ {
			require.True(t, q.add(0, uint32(n), made(1, n)))
		}
		q.flush()
		p := <-q.batches
		require.NoError(t, p.Check())
		require.Len(t, p.Targets, int(p.Count))
		return recordNumbers(p)
	}
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, add(rich, 0, 8))
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6}, add(poor, 0, 20))
	require.EqualValues(t, 13, poor.throttled.Load())
	require.EqualValues(t, 3, own.tokens.Load(), "what the shared bucket refused was given back")
	require.EqualValues(t, 10, own.denied.Load())
	require.EqualValues(t, 3, shared.denied.Load())
	poor.refill(begin.Add(time.Second))
	require.Equal(t, []int{20, 21, 22, 23, 24, 25, 26, 27, 28, 29}, add(poor, 20, 40))
	require.EqualValues(t, 17, poor.sequence, "what is left out has no number")
	require.EqualValues(t, 17, poor.records.Load())
	require.Zero(t, poor.lost.Load())
}
