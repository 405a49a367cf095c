// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/layout"
)

// sampleArchive is a small archive: three packed files, a raw one, and what else
// lies around in BTFHub's.
func sampleArchive(t testing.TB) []member {
	t.Helper()
	return []member{
		{name: "LICENSE", content: []byte("Apache")},
		{name: "README.md", content: []byte("read me")},
		{name: "debian/bullseye/arm64/5.10.0-8-arm64.btf.tar.xz", content: packed(t, sampleBTF(t, "a"))},
		{name: "sles/15.3/x86_64/5.3.18-57-default.btf", content: sampleBTF(t, "b")},
		{name: "ubuntu/18.04/x86_64/4.15.0-20-generic.btf.tar.xz", content: packed(t, sampleBTF(t, "c"))},
		{name: "ubuntu/20.04/x86_64/5.4.0-58-generic.btf.tar.xz", content: packed(t, sampleBTF(t, "d"))},
		{name: "ubuntu/focal", flag: tar.TypeSymlink, link: "20.04"},
	}
}

// writeDir puts members into a directory.
func writeDir(t testing.TB, dir string, members []member) {
	t.Helper()
	for _, m := range members {
		if m.flag == tar.TypeSymlink {
			require.NoError(t, os.Symlink(m.link, filepath.Join(dir, m.name)))
			continue
		}
		put(t, dir, m.name, m.content)
	}
}

// visits collects what a walk visits.
type visits struct {
	mu  sync.Mutex
	raw map[layout.Kernel][]byte
}

func (v *visits) visit(ctx context.Context, e *Entry) error {
	raw, err := e.BTF(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.raw == nil {
		v.raw = map[layout.Kernel][]byte{}
	}
	v.raw[e.Kernel] = raw
	return nil
}

func TestWalkReadsEveryForm(t *testing.T) {
	members := sampleArchive(t)
	folder := t.TempDir()
	writeDir(t, folder, members)
	checkout := t.TempDir()
	writeDir(t, filepath.Join(checkout, "btfhub-archive-main"), members)
	put(t, checkout, "btfhub-archive-main/.git/objects/ubuntu/20.04/x86_64/5.4.0.btf.tar.xz", []byte("no"))
	paths := map[string]string{"folder": folder, "checkout": checkout}
	for _, format := range []string{"tar", "gz", "xz", "zst"} {
		paths[format] = filepath.Join(t.TempDir(), "archive."+format)
		require.NoError(t, os.WriteFile(paths[format], compress(t, format, makeTar(t, members...)), 0o644))
	}
	paths["stdin"] = "-"

	for name, path := range paths {
		t.Run(name, func(t *testing.T) {
			var v visits
			var last Progress
			report, err := Walk(t.Context(), path, Options{
				Stdin:    bytes.NewReader(compress(t, "gz", makeTar(t, members...))),
				Progress: func(p Progress) { last = p },
			}, v.visit)
			require.NoError(t, err)
			require.Equal(t, Report{Entries: 4, Aliases: 1}, report)
			require.Equal(t, 4, last.Done)
			require.Equal(t, sampleBTF(t, "a"), v.raw[layout.Kernel{Distro: "debian", Release: "bullseye", Arch: "arm64", Uname: "5.10.0-8-arm64"}])
			require.Equal(t, sampleBTF(t, "b"), v.raw[layout.Kernel{Distro: "sles", Release: "15.3", Arch: "x86_64", Uname: "5.3.18-57-default"}])
			require.Equal(t, sampleBTF(t, "d"), v.raw[focal])
		})
	}
}

func TestWalkFilters(t *testing.T) {
	dir := t.TempDir()
	writeDir(t, dir, sampleArchive(t))
	put(t, dir, "ubuntu/16.04/x86_64/broken.btf.tar.xz", []byte("broken"))
	for _, test := range []struct {
		filter        Filter
		read, skipped int
	}{
		{Filter{}, 4, 1},
		{Filter{Distros: []string{"debian", "sles"}}, 2, 0},
		{Filter{Distros: []string{"ubuntu"}, Releases: []string{"[12]?.04"}}, 2, 1},
		{Filter{Releases: []string{"1[58]*"}}, 2, 0},
		{Filter{Arches: []string{"aarch64"}}, 1, 0},
		{Filter{Arches: []string{"amd64"}, Distros: []string{"u*"}, Releases: []string{"20.04"}}, 1, 0},
		{Filter{Arches: []string{"mips"}}, 0, 0},
	} {
		report, err := Walk(t.Context(), dir, Options{Filter: test.filter}, decode)
		require.NoError(t, err)
		require.Equal(t, test.read, report.Entries, test.filter)
		require.Len(t, report.Skipped, test.skipped, test.filter)
		require.Equal(t, 5, report.Entries+report.Filtered+len(report.Skipped), test.filter)
	}
}

func TestWalkRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("no tar "), 100), 0o644))
	archive := makeTar(t, member{name: "a.btf"}, member{name: focal.File(), content: packed(t, sampleBTF(t, "a"))})
	short, shorter, packed := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "c")
	require.NoError(t, os.WriteFile(short, archive[:len(archive)-1024], 0o644), "between two files")
	require.NoError(t, os.WriteFile(shorter, archive[:1100], 0o644), "inside of a file")
	gz := compress(t, "gz", archive)
	require.NoError(t, os.WriteFile(packed, gz[:len(gz)-20], 0o644))
	for _, test := range []struct {
		path string
		opts Options
		want string
	}{
		{"/nonexistent", Options{}, "no such file"},
		{"/dev/null", Options{}, "want a directory or a tar file"},
		{"-", Options{}, "no standard input was given"},
		{file, Options{}, "file 1 of the tar"},
		{short, Options{}, "file 3 of the tar: unexpected EOF"},
		{shorter, Options{}, "btf.tar.xz\": unexpected EOF"},
		{packed, Options{}, "unexpected EOF"},
		{t.TempDir(), Options{Workers: -1}, "can't be negative"},
		{t.TempDir(), Options{Filter: Filter{Distros: []string{"["}}}, `filter "[": want a name or a shell pattern`},
	} {
		_, err := Walk(t.Context(), test.path, test.opts, decode)
		require.ErrorContains(t, err, test.want, test.path)
	}
}

func TestWalkTakesTheFirstOfDuplicates(t *testing.T) {
	const raw = "ubuntu/20.04/x86_64/5.4.0-58-generic.btf"
	a, b := packed(t, sampleBTF(t, "a")), packed(t, sampleBTF(t, "b"))
	members := []member{
		{name: focal.File(), content: a},
		{name: raw, content: sampleBTF(t, "a")},
		{name: "other/" + focal.File(), content: b},
		{name: "again/" + focal.File(), content: a},
		{name: "ubuntu/20.04/amd64/5.4.0-58-generic.btf.tar.xz", content: b},
	}
	archive := filepath.Join(t.TempDir(), "archive.tar")
	require.NoError(t, os.WriteFile(archive, makeTar(t, members...), 0o644))
	dir := t.TempDir()
	writeDir(t, dir, members)
	for _, test := range []struct {
		path, first string
		same        []string
	}{
		{archive, focal.File(), []string{"again/" + focal.File()}},
		{dir, "again/" + focal.File(), []string{focal.File()}},
	} {
		for range 5 {
			report, err := Walk(t.Context(), test.path, Options{Workers: 4}, func(_ context.Context, e *Entry) error {
				assert.Equal(t, test.first, e.Path)
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, 1, report.Entries)
			require.Len(t, report.Skipped, 4)
			for _, p := range report.Skipped {
				require.Equal(t, KindDuplicate, p.Kind)
				content := "other content"
				if slices.Contains(test.same, p.Path) {
					content = "the same content"
				}
				require.Equal(t, test.first+" is for the same kernel and comes first; this file has "+content, p.Reason)
			}
		}
	}
}

func TestWalkComparesFilesOfOneName(t *testing.T) {
	a := member{name: focal.File(), content: packed(t, sampleBTF(t, "a"))}
	b := member{name: focal.File(), content: packed(t, sampleBTF(t, "b"))}
	report, err := Walk(t.Context(), "-", Options{Stdin: bytes.NewReader(makeTar(t, a, b, a))}, decode)
	require.NoError(t, err)
	require.Equal(t, 1, report.Entries)
	require.Len(t, report.Skipped, 2)
	require.Contains(t, report.Skipped[0].Reason, "other content")
	require.Contains(t, report.Skipped[1].Reason, "the same content")
}

// What a caller does that remembers digests: nothing is decoded the second time.
func TestWalkIsIncrementalByDigest(t *testing.T) {
	dir := t.TempDir()
	writeDir(t, dir, sampleArchive(t))
	var known sync.Map
	var decoded atomic.Int32
	visit := func(ctx context.Context, e *Entry) error {
		assert.Equal(t, sha256.Sum256(e.Stored()), e.Digest)
		assert.Equal(t, int64(len(e.Stored())), e.Size)
		if _, ok := known.LoadOrStore(e.Digest, true); ok {
			return nil
		}
		decoded.Add(1)
		return decode(ctx, e)
	}
	for _, want := range []int32{4, 4, 5} {
		if want == 5 {
			put(t, dir, focal.File(), packed(t, sampleBTF(t, "changed")))
		}
		_, err := Walk(t.Context(), dir, Options{}, visit)
		require.NoError(t, err)
		require.Equal(t, want, decoded.Load())
	}
}

func TestWalkEndsEarly(t *testing.T) {
	dir := t.TempDir()
	for i := range 100 {
		put(t, dir, fmt.Sprintf("ubuntu/20.04/x86_64/5.4.%d.btf", i), sampleBTF(t, "task_struct"))
	}
	cause := errors.New("disk full")
	var visited atomic.Int32
	_, err := Walk(t.Context(), dir, Options{Workers: 2}, func(context.Context, *Entry) error {
		visited.Add(1)
		return cause
	})
	require.ErrorIs(t, err, cause)
	require.LessOrEqual(t, visited.Load(), int32(4))

	ctx, cancel := context.WithCancel(t.Context())
	visited.Store(0)
	_, err = Walk(ctx, dir, Options{Workers: 2}, func(ctx context.Context, e *Entry) error {
		if visited.Add(1) == 10 {
			cancel()
		}
		return decode(ctx, e)
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, visited.Load(), int32(20))

	_, err = Walk(ctx, "-", Options{Stdin: bytes.NewReader(makeTar(t, sampleArchive(t)...))}, decode)
	require.ErrorIs(t, err, context.Canceled)
}

func TestWalkGoesOnAfterContentErrors(t *testing.T) {
	dir := t.TempDir()
	writeDir(t, dir, sampleArchive(t))
	report, err := Walk(t.Context(), dir, Options{}, func(_ context.Context, e *Entry) error {
		if e.Kernel == focal {
			return fmt.Errorf("tailoring: %w", Broken(errors.New("type 7 is its own member")))
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 3, report.Entries)
	require.Equal(t, []Problem{{focal.File(), KindBroken, "tailoring: type 7 is its own member"}}, report.Skipped)
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	writeDir(t, dir, sampleArchive(t))
	entry, err := Read(dir, focal.File(), Options{})
	require.NoError(t, err)
	require.Equal(t, focal, entry.Kernel)
	raw, err := entry.BTF(t.Context())
	require.NoError(t, err)
	require.Equal(t, sampleBTF(t, "d"), raw)

	_, err = Read(dir, "ubuntu/20.04/x86_64/none.btf", Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Read(dir, "../"+focal.File(), Options{})
	require.ErrorContains(t, err, "escapes")
	_, err = Read(dir, "README.md", Options{})
	require.ErrorContains(t, err, "want distro/release/arch/kernel")
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "ubuntu/20.04/x86_64/fifo.btf"), 0o644))
	_, err = Read(dir, "ubuntu/20.04/x86_64/fifo.btf", Options{})
	require.ErrorContains(t, err, "a fifo is no part of an archive", "and it doesn't block")
	_, err = Read(dir, focal.File(), Options{MaxPacked: 10})
	require.ErrorContains(t, err, "want at most 10")
}
