// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// needTracker skips tests that load the tracker where this user can't.
func needTracker(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loading eBPF takes CAP_BPF and CAP_PERFMON, and cgroups are made")
	}
}

// hierarchies are directories that Open takes, by what it finds in each.
func hierarchies(t *testing.T) map[Hierarchy]string {
	t.Helper()
	all := make(map[Hierarchy]string)
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if tree, err := openTree(dir); err == nil {
			all[tree.hierarchy] = dir
			tree.close()
		}
	}
	require.NotEmpty(t, all, "needs cgroups")
	return all
}

// forEach runs a test on each hierarchy of this machine, with a cgroup that holds
// a node.
func forEach(t *testing.T, test func(t *testing.T, n *node)) {
	needTracker(t)
	for hierarchy, dir := range hierarchies(t) {
		t.Run(hierarchy.String(), func(t *testing.T) {
			n := &node{t: t, cgroups: dir, dir: dir, root: "/nodegadget-" + filepath.Base(t.TempDir())}
			if hierarchy != V2 {
				n.dir = filepath.Join(dir, hierarchy.controller())
			}
			n.root = "/nodegadget-container-test"
			n.make("")
			test(t, n)
		})
	}
}

// node is a cgroup that stands for all of a node.
type node struct {
	t *testing.T
	// cgroups is where all hierarchies are, dir where this one is mounted.
	cgroups, dir, root string
}

// make makes a cgroup, to be removed at the end, and says its id.
func (n *node) make(name string) uint64 {
	n.t.Helper()
	dir := filepath.Join(n.dir, n.root, name)
	require.NoError(n.t, os.Mkdir(dir, 0o755))
	n.t.Cleanup(func() { n.remove(name) })
	var stat unix.Stat_t
	require.NoError(n.t, unix.Stat(dir, &stat))
	return stat.Ino
}

func (n *node) remove(name string) {
	n.t.Helper()
	dir := filepath.Join(n.dir, n.root, name)
	require.Eventually(n.t, func() bool {
		err := os.Remove(dir)
		return err == nil || os.IsNotExist(err)
	}, 5*time.Second, time.Millisecond, dir)
}

// open opens a registry for the node, and runs it until the test ends.
func (n *node) open(opts Options) *Registry {
	n.t.Helper()
	opts.Cgroups, opts.Root = n.cgroups, n.root
	r, err := Open(opts)
	require.NoError(n.t, err)
	n.t.Cleanup(r.Close)
	return r
}

func run(t *testing.T, r *Registry) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// TestTheKernelTellsBeforeMkdirReturns, which is before a process can be in there.
func TestTheKernelTellsBeforeMkdirReturns(t *testing.T) {
	forEach(t, func(t *testing.T, n *node) {
		r := n.open(Options{})
		for range 100 {
			id := n.make(id1)
			r.tracker.setDeadline(time.Now())
			e, err := r.tracker.next()
			for err == nil && e.id != id {
				e, err = r.tracker.next()
			}
			require.NoError(t, err)
			require.Equal(t, event{id: id, parent: n.id(""), name: id1, last: e.last}, e)
			n.remove(id1)
			e, err = r.tracker.next()
			require.NoError(t, err)
			require.True(t, e.removed && e.id == id)
		}
	})
}

func (n *node) id(name string) uint64 {
	n.t.Helper()
	var stat unix.Stat_t
	require.NoError(n.t, unix.Stat(filepath.Join(n.dir, n.root, name), &stat))
	return stat.Ino
}
