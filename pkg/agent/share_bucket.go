// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync/atomic"
	"time"
)

// bucket bounds a rate: each record takes a token, and tokens come in steadily until there
// are burst of them. Members may share one. A batch takes its tokens at once; the time is
// only looked at when the bucket is refilled.
type bucket struct {
	rate, burst int64
	tokens      atomic.Int64
	// filled is up to when tokens have come in, in nanoseconds since made.
	filled atomic.Int64
	made   time.Time
	// denied counts those who found it empty.
	denied atomic.Uint64
}

// newBucket makes a full bucket of a rate a second. Without a burst it holds a second's worth.
func newBucket(rate, burst int64, now time.Time) *bucket {
	rate = max(rate, 1)
	if burst <= 0 {
		burst = rate
	}
	b := &bucket{rate: rate, burst: burst, made: now}
	b.tokens.Store(burst)
	return b
}

// take takes up to n tokens, and says how many there were.
func (b *bucket) take(n int64) int64 {
	left := b.tokens.Add(-n)
	if left >= 0 {
		return n
	}
	missing := min(n, -left)
	b.giveBack(missing)
	b.denied.Add(uint64(missing))
	return n - missing
}

// full says whether nobody has taken a token for so long that it can't hold more.
func (b *bucket) full(now time.Time) bool {
	b.refill(now)
	return b.tokens.Load() >= b.burst
}

// giveBack returns tokens that were of no use.
func (b *bucket) giveBack(n int64) { b.tokens.Add(n) }

// refill adds the tokens that have come in. Whoever comes second adds nothing.
func (b *bucket) refill(now time.Time) {
	from, to := b.filled.Load(), int64(now.Sub(b.made))
	// More than fills it would do nothing but overflow.
	passed := min(float64(to-from)/float64(time.Second), float64(b.burst)/float64(b.rate))
	tokens := int64(passed * float64(b.rate))
	if tokens <= 0 {
		return
	}
	if tokens < b.burst {
		// The rest of a token is not lost.
		to = from + int64(float64(tokens)/float64(b.rate)*float64(time.Second))
	}
	if !b.filled.CompareAndSwap(from, to) {
		return
	}
	if b.tokens.Add(tokens) > b.burst {
		b.tokens.Store(b.burst)
	}
}
