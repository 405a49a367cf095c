// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/tailor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// needTracker skips tests that load the tracker where this user can't.
func needTracker(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loading eBPF takes CAP_BPF and CAP_PERFMON, and cgroups are made")
	}
}

// node is a cgroup that stands for all of a node.
type node struct {
	t *testing.T
	// cgroups is where all hierarchies are, dir where this one is mounted.
	cgroups, dir, root string
}

// forEach runs a test on each hierarchy of this machine, with a cgroup for a node.
func forEach(t *testing.T, test func(t *testing.T, n *node)) {
	t.Helper()
	needTracker(t)
	tested := 0
	for _, cgroups := range []string{ownCgroups, ownCgroups + "/unified"} {
		tree, err := openTree(cgroups)
		if err != nil {
			continue
		}
		tree.close()
		tested++
		t.Run(tree.hierarchy.String(), func(t *testing.T) {
			n := &node{t: t, cgroups: cgroups, dir: filepath.Join(cgroups, tree.hierarchy.controller()), root: fmt.Sprintf("/nodegadget-test-%d", os.Getpid())}
			if err := os.Mkdir(n.path(""), 0o755); err != nil {
				t.Skipf("needs cgroups that can be made: %v", err)
			}
			t.Cleanup(func() { n.remove("") })
			test(t, n)
		})
	}
	require.NotZero(t, tested, "no cgroups at %s", ownCgroups)
}

func (n *node) path(name string) string { return filepath.Join(n.dir, n.root, name) }

func (n *node) id(name string) uint64 {
	n.t.Helper()
	var stat unix.Stat_t
	require.NoError(n.t, unix.Stat(n.path(name), &stat))
	return stat.Ino
}

// make makes a cgroup, to be removed at the end, and says its id.
func (n *node) make(name string) uint64 {
	n.t.Helper()
	require.NoError(n.t, os.Mkdir(n.path(name), 0o755))
	n.t.Cleanup(func() { n.remove(name) })
	return n.id(name)
}

// makeAll makes also what is above.
func (n *node) makeAll(name string) uint64 {
	n.t.Helper()
	if _, err := os.Stat(n.path(filepath.Dir(name))); err != nil {
		n.makeAll(filepath.Dir(name))
	}
	return n.make(name)
}

// remove waits for processes, which leave a cgroup a little after they were waited for.
func (n *node) remove(name string) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		err := os.Remove(n.path(name))
		return err == nil || os.IsNotExist(err)
	}, 5*time.Second, time.Millisecond, name)
}

func (n *node) open(opts Options) *Registry {
	n.t.Helper()
	opts.Cgroups = n.cgroups
	if opts.Root == "" {
		opts.Root = n.root
	}
	r, err := Open(opts)
	require.NoError(n.t, err)
	n.t.Cleanup(r.Close)
	return r
}

// run runs a registry until the test ends.
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

// watch collects what a follower is told of cgroups until done.
func watch(t *testing.T, s *Subscription, done func(latest map[uint64]Change) bool) map[uint64]Change {
	t.Helper()
	latest := make(map[uint64]Change)
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		if s.Dirty() {
			for _, change := range s.Take(nil) {
				latest[change.CgroupID] = change
			}
		}
		if done(latest) {
			return latest
		}
		require.True(t, time.Now().Before(end), "not told in time: %v", latest)
	}
}

// TestTheKernelTellsBeforeMkdirReturns, which is before a process can be in there.
func TestTheKernelTellsBeforeMkdirReturns(t *testing.T) {
	forEach(t, func(t *testing.T, n *node) {
		r := n.open(Options{})
		r.tracker.setDeadline(time.Now())
		// Others may make cgroups as well.
		tell := func(id uint64) event {
			for {
				e, err := r.tracker.next()
				require.NoError(t, err)
				if e.id == id {
					e.last = false
					return e
				}
			}
		}
		for range 100 {
			id := n.make(id1)
			require.Equal(t, event{id: id, parent: n.id(""), name: id1}, tell(id))
			n.remove(id1)
			require.Equal(t, event{id: id, parent: n.id(""), name: id1, removed: true}, tell(id))
		}
	})
}

// echo says of each container what it was asked about.
type echo struct{}

func (echo) Name() string { return "echo" }

func (echo) Lookup(_ context.Context, id string) (Info, error) {
	return Info{Name: "name of " + id, Pod: Pod{Namespace: "shop", Name: "pod of " + id, UID: uid}}, nil
}

func TestManyShortLivedContainersAreAllKnown(t *testing.T) {
	forEach(t, func(t *testing.T, n *node) {
		n.makeAll(burstable)
		r := n.open(Options{Resolver: echo{}})
		run(t, r)
		follower := r.Subscribe()
		defer follower.Close()
		const count = 500
		ids := make(map[uint64]string)
		begin := time.Now()
		for i := range count {
			name := fmt.Sprintf("%064x", i)
			dir := n.path(burstable + "/" + name)
			require.NoError(t, os.Mkdir(dir, 0o755))
			ids[n.id(burstable+"/"+name)] = name
			require.NoError(t, os.Remove(dir))
		}
		took := time.Since(begin)
		latest := watch(t, follower, func(latest map[uint64]Change) bool {
			for id := range ids {
				if latest[id].State != Known {
					return false
				}
			}
			return true
		})
		for id, name := range ids {
			got := latest[id].Container
			require.Equal(t, name, got.ID)
			require.Equal(t, "name of "+name, got.Name)
			require.Equal(t, "pod of "+name, got.Pod.Name)
			require.Equal(t, id, got.CgroupID)
			require.False(t, got.Unresolved)
		}
		require.Empty(t, r.Containers())
		require.Zero(t, r.Stats().TrackerLost)
		t.Logf("%d cgroups made and removed in %v, all known %v after the first", count, took, time.Since(begin))
	})
}

func TestAContainerIsKnownWhenItRuns(t *testing.T) {
	forEach(t, func(t *testing.T, n *node) {
		n.makeAll(burstable)
		r := n.open(Options{Resolver: echo{}})
		run(t, r)
		follower := r.Subscribe()
		defer follower.Close()
		var waits []time.Duration
		for i := range 20 {
			name := burstable + "/" + fmt.Sprintf("%064x", i)
			begin := time.Now()
			id := n.make(name)
			watch(t, follower, func(latest map[uint64]Change) bool { return latest[id].State == Known })
			waits = append(waits, time.Since(begin))
			script := "echo $$ >" + n.path(name) + "/cgroup.procs; exec /bin/true"
			out, err := exec.CommandContext(t.Context(), "/bin/sh", "-ec", script).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		slices.Sort(waits)
		t.Logf("known after %v (median), %v (longest)", waits[len(waits)/2], waits[len(waits)-1])
	})
}

func TestNeighboursAreForeign(t *testing.T) {
	forEach(t, func(t *testing.T, n *node) {
		n.makeAll("node1/" + burstable)
		n.makeAll("node2/" + burstable)
		before := n.make("node2/" + burstable + "/" + id1)
		r := n.open(Options{Root: n.root + "/node1"})
		run(t, r)
		follower := r.Subscribe()
		defer follower.Close()
		after := n.make("node2/" + burstable + "/" + id2)
		nested := n.make("node2/" + burstable + "/" + id2 + "/sub")
		ours := n.make("node1/" + burstable + "/" + id2)
		below := n.make("node1/" + burstable + "/" + id2 + "/sub")
		latest := watch(t, follower, func(latest map[uint64]Change) bool { return latest[below].State != 0 })
		for id, want := range map[uint64]State{
			before: Foreign, after: Foreign, nested: Foreign, n.id("node2"): Foreign, n.id(""): Foreign,
			ours: Known, below: Known, n.id("node1"): Host,
		} {
			require.Equal(t, want, latest[id].State, id)
		}
		require.Same(t, latest[ours].Container, latest[below].Container)
	})
}

// TestTheNodeIsFoundByThisProcessOnThisKernel moves this process into a pod.
func TestTheNodeIsFoundByThisProcessOnThisKernel(t *testing.T) {
	forEach(t, func(t *testing.T, n *node) {
		n.makeAll(burstable + "/" + id1)
		text, err := os.ReadFile("/proc/self/cgroup")
		require.NoError(t, err)
		tree, err := openTree(n.cgroups)
		require.NoError(t, err)
		defer tree.close()
		before, err := readMembership(string(text), tree.hierarchy)
		require.NoError(t, err)
		move := func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
		}
		move(n.path(burstable + "/" + id1))
		defer move(filepath.Join(n.dir, before.path))
		r, err := Open(Options{Cgroups: n.cgroups})
		require.NoError(t, err)
		defer r.Close()
		require.Equal(t, n.root, r.root)
		require.Len(t, r.Containers(), 1)
	})
}

func TestWhatTheTrackerLosesIsFoundInTheTree(t *testing.T) {
	forEach(t, func(t *testing.T, n *node) {
		n.makeAll(burstable)
		removed := n.make(burstable + "/" + id1)
		r := n.open(Options{buffer: uint32(os.Getpagesize())})
		follower := r.Subscribe()
		defer follower.Close()
		ids := make(map[uint64]string)
		for i := range 100 {
			name := fmt.Sprintf("%064x", i)
			ids[n.make(burstable+"/"+name)] = name
		}
		n.remove(burstable + "/" + id1)
		run(t, r)
		latest := watch(t, follower, func(latest map[uint64]Change) bool {
			for id := range ids {
				if latest[id].State != Known {
					return false
				}
			}
			return len(r.Containers()) == len(ids)
		})
		for id, name := range ids {
			require.Equal(t, name, latest[id].Container.ID)
		}
		require.Equal(t, Known, latest[removed].State)
		require.False(t, latest[removed].Gone, "it is known for a while")
		stats := r.Stats()
		require.NotZero(t, stats.TrackerLost)
		// Others may make cgroups as well, and fill so small a buffer again.
		require.GreaterOrEqual(t, stats.Walks, uint64(2))
		require.NotZero(t, stats.Gone)
	})
}

// TestTailoredTypesAreEnough, as a bundle has them.
func TestTailoredTypesAreEnough(t *testing.T) {
	needs, err := tailor.Parse(Object("x86_64"), Object("arm64"))
	require.NoError(t, err)
	require.Equal(t, needs.Objects()[0].Relocations, needs.Objects()[1].Relocations)
	forEach(t, func(t *testing.T, n *node) {
		full, err := os.ReadFile("/sys/kernel/btf/vmlinux")
		if err != nil {
			t.Skipf("needs the kernel's BTF: %v", err)
		}
		small, err := needs.Tailor(full)
		require.NoError(t, err)
		types, err := btf.LoadSpecFromReader(bytes.NewReader(small))
		require.NoError(t, err)
		r := n.open(Options{Types: types})
		run(t, r)
		follower := r.Subscribe()
		defer follower.Close()
		id := n.make(id1)
		latest := watch(t, follower, func(latest map[uint64]Change) bool { return latest[id].State != 0 })
		require.Equal(t, id1, latest[id].Container.ID)
	})
}
