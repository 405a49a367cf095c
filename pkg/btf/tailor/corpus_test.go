// SPDX-License-Identifier: Apache-2.0

package tailor_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/btf/witness"
)

// leastKernels is what the corpus must have to tell something.
const leastKernels = 50

// corpusDir is where make corpus puts kernels' types.
func corpusDir(tb testing.TB) string {
	tb.Helper()
	cache := os.Getenv("NODEGADGET_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		require.NoError(tb, err)
		cache = filepath.Join(home, ".cache", "nodegadget")
	}
	dir := filepath.Join(cache, "corpus")
	if _, err := os.Stat(dir); err != nil {
		tb.Skipf("no corpus of kernels: run make corpus (%v)", err)
	}
	return dir
}

// walk calls check for each kernel of the corpus, on all cores.
func walk(t *testing.T, check func(t *testing.T, ctx context.Context, e *hub.Entry, full []byte) int) {
	t.Helper()
	var mu sync.Mutex
	compared, least := 0, leastKernels
	var opts hub.Options
	if testing.Short() {
		// For the race detector a few are enough.
		opts.Filter.Releases, least = []string{"14", "sid"}, 2
	}
	report, err := hub.Walk(t.Context(), corpusDir(t), opts, func(ctx context.Context, e *hub.Entry) error {
		full, err := e.BTF(ctx)
		if err != nil {
			return err
		}
		n := check(t, ctx, e, full)
		mu.Lock()
		defer mu.Unlock()
		compared += n
		return nil
	})
	require.NoError(t, err)
	require.Empty(t, report.Skipped)
	require.GreaterOrEqual(t, report.Entries, least)
	t.Logf("%d kernels, %d relocations compared", report.Entries, compared)
}

// TestCorpusRelocatesAlike compares every gadget on every kernel.
func TestCorpusRelocatesAlike(t *testing.T) {
	objects := append(tailor.BuiltinObjects(t), witness.Objects()...)
	objects = append(objects, tailor.SyntheticObject(t))
	needs, err := tailor.Parse(objects...)
	require.NoError(t, err)
	compare := tailor.NewComparison(t, objects)
	walk(t, func(t *testing.T, _ context.Context, e *hub.Entry, full []byte) int {
		small, err := needs.Tailor(full)
		if err != nil {
			t.Errorf("%s: %v", e.Kernel, err)
			return 0
		}
		diff, n := compare(full, small)
		if diff != "" {
			t.Errorf("%s: %s", e.Kernel, diff)
		}
		return n
	})
}

// TestBpftoolRelocatesAlike compares with what bpftool makes for the gadgets.
func TestBpftoolRelocatesAlike(t *testing.T) {
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		t.Skip("bpftool is not installed")
	}
	objects := tailor.BuiltinObjects(t)
	dir := t.TempDir()
	var paths []string
	for _, o := range objects {
		path := filepath.Join(dir, "objects", filepath.FromSlash(o.Name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, o.Content, 0o644))
		paths = append(paths, path)
	}
	needs, err := tailor.Parse(objects...)
	require.NoError(t, err)
	compare := tailor.NewComparison(t, objects)
	walk(t, func(t *testing.T, ctx context.Context, e *hub.Entry, full []byte) int {
		from := filepath.Join(dir, e.Kernel.Distro+e.Kernel.Release+e.Kernel.Arch+e.Kernel.Uname)
		to := from + ".min"
		defer os.Remove(from)
		if err := os.WriteFile(from, full, 0o644); err != nil {
			t.Error(err)
			return 0
		}
		out, err := exec.CommandContext(ctx, bpftool, append([]string{"gen", "min_core_btf", from, to}, paths...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: bpftool: %v: %s", e.Kernel, err, bytes.TrimSpace(out))
			return 0
		}
		theirs, err := os.ReadFile(to)
		if err != nil {
			t.Error(err)
			return 0
		}
		ours, err := needs.Tailor(full)
		if err != nil {
			t.Errorf("%s: %v", e.Kernel, err)
			return 0
		}
		if len(ours) > len(theirs) {
			t.Errorf("%s: %d bytes, bpftool needs %d", e.Kernel, len(ours), len(theirs))
		}
		diff, n := compare(theirs, ours)
		if diff != "" {
			t.Errorf("%s: %s", e.Kernel, diff)
		}
		return n
	})
}
