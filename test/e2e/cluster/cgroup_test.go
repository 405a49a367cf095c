// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSweep ends processes that an earlier cluster left, and takes away its files.
func TestSweep(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: making cgroups")
	}
	opts := Options{Dir: filepath.Join(t.TempDir(), "nodegadget-e2e-sweep")}
	require.NoError(t, os.MkdirAll(filepath.Join(opts.Dir, "log"), 0o755))
	g, err := makeGroup(opts.name() + "/node1/system")
	require.NoError(t, err)
	p, err := place{group: g, logs: filepath.Join(opts.Dir, "log")}.daemon("sleep", "/bin/sleep", "60")
	require.NoError(t, err)
	left, err := leftovers(opts)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Contains(t, left[0], "sleep")

	require.NoError(t, sweep(opts))
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the process goes on")
	}
	left, err = leftovers(opts)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoDirExists(t, opts.Dir)
	for _, h := range g.all {
		require.NoDirExists(t, filepath.Join(h.dir, opts.name()))
	}
}

// TestLock lets one in at a time, though each removes the file.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var all sync.WaitGroup
	var inside atomic.Int32
	for range 8 {
		all.Go(func() {
			for range 50 {
				unlock, err := lock(path, func() {})
				if !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, int32(1), inside.Add(1))
				inside.Add(-1)
				unlock()
			}
		})
	}
	all.Wait()
	require.NoFileExists(t, path)
}

// TestGroupSparesOthers sends nothing to a process that isn't in the group.
func TestGroupSparesOthers(t *testing.T) {
	g, err := findGroup("nodegadget-e2e-none")
	if err != nil {
		t.Skipf("needs cgroups: %v", err)
	}
	require.NoError(t, g.signal(os.Getpid(), 9))
	pids, err := g.processes()
	require.NoError(t, err)
	require.Empty(t, pids)
}
