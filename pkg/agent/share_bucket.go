// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync/atomic"
	"time"
)

// bucket bounds a rate: each record takes a token, and tokens come in steadily until there
// are burst of them. Members may share one. Taking costs one atomic operation; the time is
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

// take takes a token, if there is one.
func (b *bucket) take() bool {
	if b.tokens.Add(-1) >= 0 {
		return true
	}
	b.tokens.Add(1)
	b.denied.Add(1)
	return false
}

// giveBack returns a token that was of no use.
func (b *bucket) giveBack() { b.tokens.Add(1) }

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
