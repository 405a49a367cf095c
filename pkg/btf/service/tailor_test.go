// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

func TestTailor(t *testing.T) {
	s := server(t, Options{})
	one, two := object(t), gadgetObject(t, "trace_signal")
	multipartOne, bodyOne := form(t, "object", one)
	multipartTwo, bodyTwo := form(t, "object", one, two)
	for _, test := range []struct {
		name, target, contentType string
		body                      []byte
		kernel                    layout.Kernel
		want                      []byte
	}{
		{"octets", query(focal), "application/octet-stream", one, focal, small(t, focal, one)},
		{"ELF", query(focal), "application/x-elf", one, focal, small(t, focal, one)},
		{"no type", query(focal), "", one, focal, small(t, focal, one)},
		{"form", query(arm), multipartOne, bodyOne, arm, small(t, arm, one)},
		{"union", query(focal), multipartTwo, bodyTwo, focal, small(t, focal, one, two)},
		{"other name of the architecture", "?distro=ubuntu&release=20.04&arch=aarch64&kernel=" + arm.Uname, "", one, arm, small(t, arm, one)},
		{"no distribution", "?arch=arm64&kernel=" + arm.Uname, "", one, arm, small(t, arm, one)},
		{"empty distribution", "?distro=&release=&arch=arm64&kernel=" + arm.Uname, "", one, arm, small(t, arm, one)},
		{"no release, one content", "?distro=ubuntu&arch=x86_64&kernel=" + focal.Uname, "", one, hwe, small(t, focal, one)},
		{"no distribution, but a release", "?release=20.04&arch=x86_64&kernel=" + focal.Uname, "", one, focal, small(t, focal, one)},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := call(s, "POST", "/v1/tailor"+test.target, test.contentType, test.body)
			require.Equal(t, 200, w.Code, w.Body.String())
			require.Equal(t, test.want, w.Body.Bytes())
			require.Equal(t, "application/octet-stream", w.Header().Get("Content-Type"))
			require.Equal(t, test.kernel.String(), w.Header().Get("Btf-Kernel"))
			require.Regexp(t, `^"[0-9a-f]{32}"$`, w.Header().Get("ETag"))
		})
	}
}

func TestTailorTagsNeedsAndSource(t *testing.T) {
	s := server(t, Options{})
	tag := func(k layout.Kernel, object []byte) string {
		return call(s, "POST", "/v1/tailor"+query(k), octetStream, object).Header().Get("ETag")
	}
	first := tag(focal, object(t))
	require.Equal(t, first, tag(focal, object(t)))
	require.Equal(t, first, tag(hwe, object(t)), "one content")
	require.NotEqual(t, first, tag(arm, object(t)))
	require.NotEqual(t, first, tag(focal, gadgetObject(t, "trace_signal")))
}

func TestAmbiguousKernels(t *testing.T) {
	s := server(t, Options{})
	w := call(s, "POST", "/v1/tailor?arch=x86_64&kernel="+rhel.Uname, octetStream, object(t))
	requireProblem(t, w, ambiguous, "centos/7/x86_64/3.10.0-1160.el7.x86_64, rhel/7/x86_64/3.10.0-1160.el7.x86_64")
}

func TestCacheCounts(t *testing.T) {
	s := server(t, Options{})
	for i, step := range []struct {
		kernel       layout.Kernel
		object       string
		hits, misses float64
	}{
		{focal, "trace_exec", 0, 1},
		{focal, "trace_exec", 1, 1},
		{hwe, "trace_exec", 2, 1}, // the same content
		{arm, "trace_exec", 2, 2},
		{focal, "trace_signal", 2, 3},
		{focal, "trace_exec", 3, 3},
	} {
		require.Equal(t, 200, call(s, "POST", "/v1/tailor"+query(step.kernel), octetStream, gadgetObject(t, step.object)).Code)
		require.Equal(t, step.hits, metric(t, s, "btfgen_cache_hits_total"), "step %d", i)
		require.Equal(t, step.misses, metric(t, s, "btfgen_cache_misses_total"), "step %d", i)
	}
	off := server(t, Options{CacheBytes: -1})
	for range 2 {
		require.Equal(t, 200, call(off, "POST", "/v1/tailor"+query(focal), octetStream, object(t)).Code)
	}
	require.Equal(t, 2.0, metric(t, off, "btfgen_cache_misses_total"))
	require.Zero(t, metric(t, off, "btfgen_cache_bytes"))
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(10 * overhead)
	for i := range 100 {
		c.add(result{source: digest{byte(i)}}, make([]byte, overhead))
		require.LessOrEqual(t, c.used(), int64(10*overhead))
	}
	require.Equal(t, int64(10*overhead), c.used())
	_, ok := c.get(result{source: digest{94}})
	require.False(t, ok)
	_, ok = c.get(result{source: digest{95}})
	require.True(t, ok)
	c.add(result{source: digest{200}}, make([]byte, 10*overhead))
	_, ok = c.get(result{source: digest{200}})
	require.False(t, ok, "larger than the cache")
	require.Equal(t, int64(10*overhead), c.used())
}

// Identical requests that come together are worked on once.
func TestIdenticalRequests(t *testing.T) {
	s := server(t, Options{Concurrency: 1, CacheBytes: -1})
	needs, err := tailor.Parse(tailor.Object{Content: object(t)})
	require.NoError(t, err)
	want := small(t, focal, object(t))
	synctest.Test(t, func(t *testing.T) {
		s.limits = newLimits(s.opts) // its channels belong to this bubble
		require.True(t, s.limits.slots.TryAcquire(1))
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				got, err := s.tailored(t.Context(), needs, focal)
				require.NoError(t, err)
				require.Equal(t, want, got.btf)
			})
		}
		// One of them leaves: the others' work goes on.
		ctx, cancel := context.WithCancel(t.Context())
		group.Go(func() {
			_, err := s.tailored(ctx, needs, focal)
			require.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		s.limits.slots.Release(1)
		group.Wait()
	})
	require.Equal(t, 1.0, metric(t, s, "btfgen_cache_misses_total"))
}
