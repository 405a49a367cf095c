// SPDX-License-Identifier: Apache-2.0

package service

import (
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

func TestBundle(t *testing.T) {
	s := server(t, Options{})
	one, two := object(t), gadgetObject(t, "trace_signal")
	contentType, upload := form(t, "object", one, two)
	for _, test := range []struct {
		query string
		want  []layout.Kernel
	}{
		{"", sorted},
		{"?distro=ubuntu&arch=amd64", []layout.Kernel{bionic, hwe, focal}},
		{query(arm), []layout.Kernel{arm}},
	} {
		w := call(s, "POST", "/v1/bundle"+test.query, contentType, upload)
		require.Equal(t, 200, w.Code, w.Body.String())
		require.Empty(t, w.Header().Get("Btf-Skipped"))
		b, err := bundle.New(w.Body.Bytes())
		require.NoError(t, err)
		require.Equal(t, test.want, b.Kernels())
		for _, k := range test.want {
			raw, err := b.Lookup(k)
			require.NoError(t, err)
			require.Equal(t, small(t, k, one, two), raw)
		}
		for _, object := range [][]byte{one, two} {
			needs, err := tailor.Parse(tailor.Object{Content: object})
			require.NoError(t, err)
			require.True(t, b.Serves(needs.Digest()))
		}
		again := call(s, "POST", "/v1/bundle"+test.query, contentType, upload)
		require.Equal(t, w.Body.Bytes(), again.Body.Bytes())
		require.Equal(t, w.Header().Get("ETag"), again.Header().Get("ETag"))
	}
	require.Equal(t, 5.0, metric(t, s, "btfgen_cache_misses_total"), "one for each content")
}

// One broken file doesn't cost the others, and is named.
func TestBundleSkipsBrokenEntries(t *testing.T) {
	dir := archiveDir(t)
	put(t, dir, focal.File(), []byte("broken"))
	put(t, dir, arm.File(), nil)
	archive, err := OpenArchive(dir)
	require.NoError(t, err)
	s := server(t, Options{Archive: archive})
	contentType, upload := form(t, "object", object(t))
	w := call(s, "POST", "/v1/bundle?distro=ubuntu", contentType, upload)
	require.Equal(t, 200, w.Code, w.Body.String())
	require.Equal(t, arm.String()+", "+focal.String(), w.Header().Get("Btf-Skipped"))
	b, err := bundle.New(w.Body.Bytes())
	require.NoError(t, err)
	require.Equal(t, []layout.Kernel{bionic, hwe}, b.Kernels())
	requireProblem(t, call(s, "POST", "/v1/bundle"+query(focal), contentType, upload), brokenEntry, focal.String())
}

func TestBundleIsBounded(t *testing.T) {
	one := int64(len(small(t, focal, object(t))))
	s := server(t, Options{MaxBundle: one})
	contentType, upload := form(t, "object", object(t))
	require.Equal(t, 200, call(s, "POST", "/v1/bundle"+query(focal), contentType, upload).Code)
	requireProblem(t, call(s, "POST", "/v1/bundle", contentType, upload), tooLarge, "the bundle would have more than")
}
