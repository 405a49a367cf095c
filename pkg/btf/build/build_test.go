// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// fullBTF is a small kernel's, in which pid is at an offset of its own.
func fullBTF(tb testing.TB, offset int) []byte {
	tb.Helper()
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	builder, err := btf.NewBuilder([]btf.Type{&btf.Struct{
		Name: "task_struct", Size: 4096, Members: []btf.Member{
			{Name: "unused", Type: number},
			{Name: "tgid", Type: number, Offset: btf.Bits(8 * offset)},
			{Name: "pid", Type: number, Offset: btf.Bits(8*offset + 32)},
		},
	}}, nil)
	require.NoError(tb, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(tb, err)
	return raw
}

func object(tb testing.TB, name string) tailor.Object {
	tb.Helper()
	path := name + "/gadget.x86_64.o"
	if name != "trace_exec" && name != "trace_signal" {
		require.Fail(tb, "no such gadget")
	}
	content, err := fs.ReadFile(gadgets.Objects(), path)
	require.NoError(tb, err)
	return tailor.Object{Name: "gadgets/" + path, Content: content}
}

func kernel(i int) layout.Kernel {
	return layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: fmt.Sprintf("5.4.0-%d-generic", i)}
}

// archive has n kernels, of which each pair is alike.
func archive(tb testing.TB, n int) string {
	tb.Helper()
	dir := tb.TempDir()
	for i := range n {
		require.NoError(tb, hub.WriteEntry(tb.Context(), dir, kernel(i), fullBTF(tb, 8+4*(i/2))))
	}
	return dir
}

func TestBuild(t *testing.T) {
	dir := archive(t, 10)
	objects := []tailor.Object{object(t, "trace_exec")}
	data, report, err := Build(t.Context(), Options{Archive: dir, Objects: objects})
	require.NoError(t, err)
	require.Equal(t, 10, report.Entries)
	require.Equal(t, 10, report.Tailored)
	require.Equal(t, 5, report.Contents)
	require.Equal(t, int64(len(data)), report.Size)
	require.Empty(t, report.Skipped)
	require.Len(t, report.Kernels, 10)
	require.Contains(t, report.Kernels[0].Unmatched, "nsproxy")

	b, err := bundle.New(data)
	require.NoError(t, err)
	needs, err := Needs(objects)
	require.NoError(t, err)
	for i := range 10 {
		got, err := b.Lookup(kernel(i))
		require.NoError(t, err)
		want, err := needs.Tailor(fullBTF(t, 8+4*(i/2)))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	alone, err := tailor.Parse(objects...)
	require.NoError(t, err)
	require.True(t, b.Serves(alone.Digest()))
	require.Equal(t, "trace_exec/gadget.x86_64.o", b.Info().Objects[0].Name)
}

func TestBytesDoNotDependOnTheRun(t *testing.T) {
	dir := archive(t, 20)
	var first []byte
	for _, workers := range []int{1, 2, 7} {
		data, _, err := Build(t.Context(), Options{Archive: dir, Objects: []tailor.Object{object(t, "trace_exec")}, Workers: workers})
		require.NoError(t, err)
		if first == nil {
			first = data
		}
		require.Equal(t, first, data)
	}
}

// TestOnlyWhatIsNewIsTailored: another kernel, other objects, a damaged cache.
func TestOnlyWhatIsNewIsTailored(t *testing.T) {
	dir, cached := archive(t, 4), t.TempDir()
	opts := Options{Archive: dir, Objects: []tailor.Object{object(t, "trace_exec")}, Cache: cached}
	step := func(tailored, fromCache int) []byte {
		t.Helper()
		data, report, err := Build(t.Context(), opts)
		require.NoError(t, err)
		require.Equal(t, [2]int{tailored, fromCache}, [2]int{report.Tailored, report.Cached})
		return data
	}
	// Files with equal content are one to the cache; workers may both be early.
	opts.Workers = 1
	want := step(4, 0)
	require.Equal(t, want, step(0, 4))
	require.NoError(t, hub.WriteEntry(t.Context(), dir, kernel(9), fullBTF(t, 400)))
	step(1, 4)
	opts.Objects = append(opts.Objects, object(t, "trace_signal"))
	step(5, 0)
	opts.Objects = opts.Objects[:1]
	require.NoError(t, filepath.WalkDir(cached, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.WriteFile(path, bytes.Repeat([]byte{1}, 100), 0o644)
	}))
	step(5, 0)
}

// TestCutShortBuildGoesOn: what was done before the end is not done again.
func TestCutShortBuildGoesOn(t *testing.T) {
	dir, cached := archive(t, 6), t.TempDir()
	broken := filepath.Join(dir, kernel(7).File())
	require.NoError(t, os.WriteFile(broken, []byte("no xz"), 0o644))
	opts := Options{Archive: dir, Objects: []tailor.Object{object(t, "trace_exec")}, Cache: cached, Workers: 1}
	opts.Filter.Releases = []string{"20.04"}
	_, report, err := Build(t.Context(), opts)
	require.NoError(t, err)
	require.Len(t, report.Skipped, 1)
	require.Equal(t, kernel(7).File(), report.Skipped[0].Path)
	require.NoError(t, os.Remove(broken))
	_, report, err = Build(t.Context(), opts)
	require.NoError(t, err)
	require.Equal(t, 6, report.Cached)
}

func TestBadObjectIsNamed(t *testing.T) {
	_, _, err := Build(t.Context(), Options{Archive: t.TempDir(), Objects: []tailor.Object{{Name: "x.o", Content: []byte("text")}}})
	require.ErrorContains(t, err, `object "x.o": want an eBPF object`)
}

// TestCacheVersion fails when tailoring gives other bytes than it did: then
// cacheVersion has to change, and this digest.
func TestCacheVersion(t *testing.T) {
	needs, err := tailor.Parse(object(t, "trace_signal"))
	require.NoError(t, err)
	small, err := needs.Tailor(fullBTF(t, 100))
	require.NoError(t, err)
	sum := sha256.Sum256(append([]byte(cacheVersion), small...))
	require.Equal(t, "5e15244d27964aaf", hex.EncodeToString(sum[:8]))
}
