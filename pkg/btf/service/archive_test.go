// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/layout"
)

func TestArchiveIndex(t *testing.T) {
	dir := archiveDir(t)
	outside := t.TempDir()
	put(t, outside, "secret.btf.tar.xz", nil)
	for _, name := range []string{
		"README.md", "ubuntu/20.04/x86_64/notes.txt", "ubuntu/20.04/mips/5.4.0.btf.tar.xz",
		".git/ubuntu/20.04/x86_64/5.4.0.btf.tar.xz", "ubuntu/20.04/x86_64/5.4.0-raw.btf",
		"ubuntu/20.04/x86_64/a\x1b[1m.btf.tar.xz", "zzz/ubuntu/20.04/x86_64/5.4.0-58-generic.btf.tar.xz",
	} {
		put(t, dir, name, []byte("x"))
	}
	require.NoError(t, os.Symlink("20.04", filepath.Join(dir, "ubuntu/focal")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret.btf.tar.xz"), filepath.Join(dir, "ubuntu/20.04/x86_64/1.btf.tar.xz")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "ubuntu/20.04/x86_64/2.btf.tar.xz"), 0o600))

	archive, err := OpenArchive(dir)
	require.NoError(t, err)
	require.Equal(t, sorted, archive.Kernels())
	entry, err := archive.entry(focal) // not zzz's
	require.NoError(t, err)
	raw, sum, err := archive.btf(t.Context(), entry)
	require.NoError(t, err)
	require.Equal(t, rawBTF(t, contents[focal]), raw)
	known, ok := archive.digest(entry)
	require.True(t, ok)
	require.Equal(t, sum, known)
}

func TestArchiveRefresh(t *testing.T) {
	dir := archiveDir(t)
	archive, err := OpenArchive(dir)
	require.NoError(t, err)
	s := server(t, Options{Archive: archive})
	fresh := layout.Kernel{Distro: "debian", Release: "13", Arch: "arm64", Uname: "6.12.0-arm64"}
	put(t, dir, fresh.File(), pack(t, fresh, rawBTF(t, 9)))
	require.NoError(t, os.Remove(filepath.Join(dir, focal.File())))
	requireProblem(t, call(s, "POST", "/v1/tailor"+query(fresh), octetStream, object(t)), noKernel, fresh.String())
	requireProblem(t, call(s, "POST", "/v1/tailor"+query(focal), octetStream, object(t)), noKernel, "any more")

	require.NoError(t, archive.Refresh())
	require.Equal(t, 200, call(s, "POST", "/v1/tailor"+query(fresh), octetStream, object(t)).Code)
	requireProblem(t, call(s, "POST", "/v1/tailor"+query(focal), octetStream, object(t)), noKernel, focal.String())
	require.Len(t, archive.Kernels(), len(sorted))

	require.NoError(t, os.RemoveAll(dir))
	require.ErrorContains(t, archive.Refresh(), "opening archive")
	require.Len(t, archive.Kernels(), len(sorted), "a failure must not empty the index")
	_, err = OpenArchive(dir)
	require.ErrorContains(t, err, "opening archive")
}

// A file that is replaced gets the types of its new content, at once.
func TestArchiveFileReplaced(t *testing.T) {
	dir := archiveDir(t)
	archive, err := OpenArchive(dir)
	require.NoError(t, err)
	s := server(t, Options{Archive: archive})
	before := call(s, "POST", "/v1/tailor"+query(focal), octetStream, object(t)).Body.Bytes()
	require.Equal(t, small(t, focal, object(t)), before)
	put(t, dir, focal.File(), pack(t, focal, rawBTF(t, contents[arm])))
	after := call(s, "POST", "/v1/tailor"+query(focal), octetStream, object(t)).Body.Bytes()
	require.Equal(t, small(t, arm, object(t)), after)
	require.False(t, bytes.Equal(before, after))
}

func TestBrokenEntries(t *testing.T) {
	dir := archiveDir(t)
	put(t, dir, focal.File(), []byte("not xz"))
	put(t, dir, arm.File(), pack(t, arm, []byte("not BTF")))
	put(t, dir, hwe.File(), nil)
	archive, err := OpenArchive(dir)
	require.NoError(t, err)
	s := server(t, Options{Archive: archive})
	for _, k := range []layout.Kernel{focal, arm, hwe} {
		w := call(s, "POST", "/v1/tailor"+query(k), octetStream, object(t))
		requireProblem(t, w, brokenEntry, k.String())
		require.NotContains(t, w.Body.String(), dir)
	}
	// What is in the file's place now can't be opened or isn't a file.
	require.NoError(t, os.Remove(filepath.Join(dir, bionic.File())))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, bionic.File()), 0o600))
	requireProblem(t, call(s, "GET", "/v1/btf/"+bionic.String(), "", nil), brokenEntry, bionic.String())
	require.NoError(t, os.Remove(filepath.Join(dir, rhel.File())))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, rhel.File())))
	requireProblem(t, call(s, "GET", "/v1/btf/"+rhel.String(), "", nil), brokenEntry, rhel.String())
}
