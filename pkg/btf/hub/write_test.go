// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/layout"
)

func TestWriteEntry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "archive")
	raw := sampleBTF(t, "task_struct")
	require.NoError(t, WriteEntry(t.Context(), dir, focal, raw))
	entry, err := Read(dir, focal.File(), Options{})
	require.NoError(t, err)
	got, err := entry.BTF(t.Context())
	require.NoError(t, err)
	require.Equal(t, raw, got)

	file := filepath.Join(dir, focal.File())
	first, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, WriteEntry(t.Context(), dir, focal, raw))
	second, err := os.Stat(file)
	require.NoError(t, err)
	require.True(t, os.SameFile(first, second), "equal entries are left alone")

	err = WriteEntry(t.Context(), dir, focal, sampleBTF(t, "mm_struct"))
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "the archive's entry has other types")
	again, err := Read(dir, focal.File(), Options{})
	require.NoError(t, err)
	require.Equal(t, entry.Digest, again.Digest)

	elsewhere := t.TempDir()
	require.NoError(t, WriteEntry(t.Context(), elsewhere, focal, raw))
	same, err := Read(elsewhere, focal.File(), Options{})
	require.NoError(t, err)
	require.Equal(t, entry.Digest, same.Digest, "reproducible")

	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestWriteEntryRefuses(t *testing.T) {
	raw := sampleBTF(t, "task_struct")
	outside := t.TempDir()
	dir := t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "sles")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fedora"), nil, 0o644))
	for _, test := range []struct {
		dir    string
		kernel layout.Kernel
		raw    []byte
		want   string
	}{
		{dir, layout.Kernel{Distro: "..", Release: "1", Arch: "x86_64", Uname: "5.4.0"}, raw, `distribution ".."`},
		{dir, layout.Kernel{}, raw, `distribution ""`},
		{dir, focal, []byte("no BTF"), "not BTF"},
		{dir, focal, append(raw, make([]byte, DefaultMaxRaw)...), "want at most"},
		{dir, layout.Kernel{Distro: "sles", Release: "15.3", Arch: "x86_64", Uname: "5.4.0"}, raw, "escapes"},
		{dir, layout.Kernel{Distro: "fedora", Release: "31", Arch: "x86_64", Uname: "5.4.0"}, raw, "not a directory"},
		{filepath.Join(dir, "fedora"), focal, raw, "not a directory"},
	} {
		require.ErrorContains(t, WriteEntry(t.Context(), test.dir, test.kernel, test.raw), test.want)
	}
	written, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Empty(t, written)
}
