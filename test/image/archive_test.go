// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/btf/layout"
)

// perArch is how many kernels of the corpus an archive gets, if there is one.
const perArch = 3

// makeArchive makes a small archive in BTFHub's layout. The running kernel is in
// it, under a distribution that nothing runs.
func makeArchive(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		t.Skipf("needs a kernel with BTF, to put into an archive: %v", err)
	}
	dir := t.TempDir()
	// Of everyone, for the service that doesn't run as root.
	require.NoError(t, os.Chmod(dir, 0o755))
	release, err := kernel.Release()
	require.NoError(t, err)
	native, err := layout.Arch(runtime.GOARCH)
	require.NoError(t, err)
	for _, arch := range []string{"x86_64", "arm64"} {
		found := fromCorpus(t, dir, arch)
		// Without a corpus the other architecture gets these types too. They are no
		// worse for being looked at.
		if arch == native || found == 0 {
			k := layout.Kernel{Distro: "nodegadget", Release: "test", Arch: arch, Uname: release}
			require.NoError(t, hub.WriteEntry(t.Context(), dir, k, raw))
		}
	}
	return dir
}

// fromCorpus copies some kernels that `make corpus` has collected, and says how many.
func fromCorpus(t *testing.T, dir, arch string) int {
	t.Helper()
	corpus := filepath.Join(cacheDir(t), "corpus")
	paths, err := filepath.Glob(filepath.Join(corpus, "debian", "*", arch, "*"+layout.ArchiveSuffix))
	require.NoError(t, err)
	paths = paths[:min(perArch, len(paths))]
	for _, path := range paths {
		k, err := layout.Parse(filepath.ToSlash(path))
		require.NoError(t, err)
		to := filepath.Join(dir, filepath.FromSlash(k.File()))
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		require.NoError(t, os.WriteFile(to, read(t, path), 0o644))
	}
	return len(paths)
}

// makeRepository makes a git repository of an archive.
func makeRepository(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(archive)))
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"},
		{"config", "uploadpack.allowFilter", "true"},
		{"add", "."},
		{"-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--no-gpg-sign", "-m", "archive"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "git %v: %s", args, out)
	}
	return dir
}
