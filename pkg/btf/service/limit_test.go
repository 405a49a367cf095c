// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRate(t *testing.T) {
	s := server(t, Options{Rate: 0.5, Burst: 3})
	from := func(address, target string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", target, nil)
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for port := range 3 {
		require.Equal(t, 200, from(fmt.Sprintf("192.0.2.1:%d", port), "/v1/kernels").Code)
	}
	w := from("192.0.2.1:9", "/v1/kernels")
	requireProblem(t, w, rateLimited, "too often")
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	requireProblem(t, from("192.0.2.1:9", "/nothing"), rateLimited, "")
	require.Equal(t, 200, from("192.0.2.2:9", "/v1/kernels").Code, "somebody else")
	for range 20 {
		require.Equal(t, 200, from("192.0.2.1:9", "/healthz").Code, "whoever watches")
	}
	require.Equal(t, 2.0, metric(t, s, `btfgen_rejected_total{reason="rate-limited"}`))
}

func TestRateRecovers(t *testing.T) {
	l := newLimits(Options{Concurrency: 1, Rate: 2, Burst: 1})
	now := time.Unix(1e9, 0)
	_, ok := l.allow("192.0.2.1:1", now)
	require.True(t, ok)
	for range 100 { // asking in vain makes it no later
		retry, ok := l.allow("192.0.2.1:1", now)
		require.False(t, ok)
		require.Equal(t, 500*time.Millisecond, retry)
	}
	_, ok = l.allow("192.0.2.1:1", now.Add(500*time.Millisecond))
	require.True(t, ok)
}

func TestRateTableIsBounded(t *testing.T) {
	l := newLimits(Options{Concurrency: 1, Rate: 1, Burst: 1})
	for i := range maxClients + 1000 {
		l.allow(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String(), time.Unix(0, 0))
	}
	require.Equal(t, maxClients, l.clients.Len())
}

func TestClientOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:80":           "192.0.2.1/32",
		"[::ffff:192.0.2.1]:80":  "192.0.2.1/32",
		"[2001:db8::1]:80":       "2001:db8::/64",
		"[2001:db8::2:3:4:5]:80": "2001:db8::/64",
		"[fe80::1%eth0]:80":      "fe80::/64",
		"@":                      "invalid Prefix",
		"pipe:1":                 "invalid Prefix",
	} {
		require.Equal(t, want, clientOf(address).String(), address)
	}
}

// With all slots taken, as many wait as the queue has room for.
func TestBusy(t *testing.T) {
	s := server(t, Options{Concurrency: 1, Queue: 1, Timeout: time.Minute})
	target, upload := "/v1/tailor"+query(focal), object(t)
	synctest.Test(t, func(t *testing.T) {
		s.limits = newLimits(s.opts)
		require.True(t, s.limits.slots.TryAcquire(1))
		answers := make(chan int, 2)
		for range 2 {
			go func() { answers <- call(s, "POST", target, "", upload).Code }()
		}
		synctest.Wait()
		w := call(s, "POST", target, "", upload)
		requireProblem(t, w, busy, "waiting")
		require.Equal(t, "2", w.Header().Get("Retry-After"))
		require.Equal(t, 200, call(s, "GET", "/v1/kernels", "", nil).Code, "what needs no work goes on")
		s.limits.slots.Release(1)
		require.Equal(t, 200, <-answers)
		require.Equal(t, 200, <-answers)
	})
}

func TestUploadMemory(t *testing.T) {
	s := server(t, Options{MaxObject: 1 << 20, MaxObjects: 1, Memory: 1, MaxBundle: 1})
	require.Equal(t, s.maxUpload()+1, s.opts.Memory, "one request must fit")
	require.True(t, s.limits.memory.TryAcquire(2))
	upload := bytes.NewReader(object(t))
	r := httptest.NewRequest("POST", "/v1/tailor"+query(focal), upload)
	r.ContentLength = -1 // might be as large as is allowed
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	requireProblem(t, w, busy, "memory")
	require.Equal(t, 200, call(s, "POST", "/v1/tailor"+query(focal), "", object(t)).Code)
}

// A request ends in time, whatever it waits for.
func TestTimeout(t *testing.T) {
	s := server(t, Options{Concurrency: 1, Timeout: 10 * time.Second})
	upload := object(t)
	synctest.Test(t, func(t *testing.T) {
		s.limits = newLimits(s.opts)
		require.True(t, s.limits.slots.TryAcquire(1))
		start := time.Now()
		w := call(s, "POST", "/v1/tailor"+query(focal), "", upload)
		requireProblem(t, w, busy, "in time")
		require.Equal(t, "5", w.Header().Get("Retry-After"))
		require.Equal(t, 10*time.Second, time.Since(start))
		s.limits.slots.Release(1)
	})
}

// Work that can't be interrupted keeps its slot, and nobody waits for it.
func TestWorkOutlivesItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(Options{Concurrency: 1, Queue: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := run(ctx, l, func(context.Context) (int, error) {
			time.Sleep(time.Minute)
			return 1, nil
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.False(t, l.slots.TryAcquire(1))
		require.NoError(t, l.idle(t.Context()))
		require.Equal(t, time.Minute, time.Since(start))
	})
}
