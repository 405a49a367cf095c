// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// maxClients bounds the table of clients whose rate is known. Whoever falls out
// of it begins anew.
const maxClients = 16_384

// limits decide what the server takes on.
type limits struct {
	requests *semaphore.Weighted // requests with an upload that are in progress or wait
	memory   *semaphore.Weighted // bytes of uploads and bundles
	slots    *semaphore.Weighted // pieces of work that run
	work     int64               // how many slots there are

	rate    rate.Limit
	burst   int
	mu      sync.Mutex
	clients *simplelru.LRU[netip.Prefix, *rate.Limiter]
}

func newLimits(opts Options) *limits {
	l := &limits{
		requests: semaphore.NewWeighted(int64(opts.Concurrency + opts.Queue)),
		memory:   semaphore.NewWeighted(opts.Memory),
		slots:    semaphore.NewWeighted(int64(opts.Concurrency)),
		work:     int64(opts.Concurrency),
		rate:     rate.Limit(opts.Rate),
		burst:    opts.Burst,
	}
	// Fails only for sizes ≤ 0.
	l.clients, _ = simplelru.NewLRU[netip.Prefix, *rate.Limiter](maxClients, nil)
	return l
}

// admit lets in a request that takes at most size bytes, or answers busy.
// The caller calls done.
func (l *limits) admit(size int64) (done func(), err error) {
	refused := &problem{kind: busy, retry: 2 * time.Second}
	if !l.requests.TryAcquire(1) {
		refused.detail = "too many requests are waiting"
		return nil, refused
	}
	if !l.memory.TryAcquire(size) {
		l.requests.Release(1)
		refused.detail = "other uploads take all memory that there is for them"
		return nil, refused
	}
	return func() {
		l.memory.Release(size)
		l.requests.Release(1)
	}, nil
}

// allow is false for a client that asks too often; retry is when it may again.
func (l *limits) allow(address string, now time.Time) (retry time.Duration, ok bool) {
	if l.rate < 0 {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := clientOf(address)
	limiter, found := l.clients.Get(key)
	if !found {
		limiter = rate.NewLimiter(l.rate, l.burst)
		l.clients.Add(key, limiter)
	}
	reservation := limiter.ReserveN(now, 1)
	if retry = reservation.DelayFrom(now); retry > 0 {
		reservation.CancelAt(now)
		return retry, false
	}
	return 0, true
}

// clientOf is who shares a rate: an IPv4 address or an IPv6 network of 64 bits,
// which one machine usually has for itself. Addresses that aren't IP share one.
func clientOf(address string) netip.Prefix {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits)
	return prefix
}

// run waits for a slot and does a piece of work in it. If the context ends first,
// run returns at once; the work keeps its slot until it is done, so that work
// which can't be interrupted doesn't pile up. A panic becomes an error: hostile
// objects must not end a server that others use.
func run[T any](ctx context.Context, l *limits, work func(context.Context) (T, error)) (T, error) {
	var none T
	if err := l.slots.Acquire(ctx, 1); err != nil {
		return none, err
	}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		defer l.slots.Release(1)
		var out outcome
		defer func() {
			if cause := recover(); cause != nil {
				out = outcome{err: &panicked{cause, debug.Stack()}}
			}
			done <- out
		}()
		out.value, out.err = work(ctx)
	}()
	select {
	case out := <-done:
		return out.value, out.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// idle waits until no work runs, or until the context ends.
func (l *limits) idle(ctx context.Context) error {
	if err := l.slots.Acquire(ctx, l.work); err != nil {
		return err
	}
	l.slots.Release(l.work)
	return nil
}

// panicked is a panic in a piece of work.
type panicked struct {
	cause any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.cause) }
