// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// burstable is where cgroups of one pod's containers are, below the node's root.
const burstable = "kubepods/burstable/pod" + uid

// fake is a node whose tree is made of ordinary directories, and whose kernel is
// the test.
type fake struct {
	*Registry
	t   *testing.T
	dir string
}

// newFake opens a registry on a tree with the given cgroups. Other cgroups may be
// there before the node's root is.
func newFake(t *testing.T, opts Options, cgroups ...string) *fake {
	t.Helper()
	dir := t.TempDir()
	for _, name := range cgroups {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	f := &fake{newRegistry(opts.withDefaults(), &tree{dir: root}), t, dir}
	require.NoError(t, f.start())
	return f
}

func (f *fake) id(name string) uint64 {
	f.t.Helper()
	info, err := os.Stat(filepath.Join(f.dir, name))
	require.NoError(f.t, err)
	return inode(info)
}

// make makes a cgroup and tells of it as the kernel does.
func (f *fake) make(name string) uint64 {
	f.t.Helper()
	require.NoError(f.t, os.Mkdir(filepath.Join(f.dir, name), 0o755))
	id := f.id(name)
	f.handle(event{id: id, parent: f.id(filepath.Dir(name)), name: filepath.Base(name)})
	return id
}

func (f *fake) removeCgroup(name string) uint64 {
	f.t.Helper()
	id := f.id(name)
	require.NoError(f.t, os.Remove(filepath.Join(f.dir, name)))
	f.handle(event{id: id, removed: true, name: filepath.Base(name)})
	return id
}

// ask asks the resolver until the test ends.
func (f *fake) ask() {
	var workers sync.WaitGroup
	ctx, cancel := context.WithCancel(f.t.Context())
	f.t.Cleanup(func() {
		cancel()
		workers.Wait()
	})
	f.resolveAll(ctx, &workers)
}

// states are those of changes by cgroup.
func states(changes []Change) map[uint64]State {
	all := make(map[uint64]State)
	for _, c := range changes {
		all[c.CgroupID] = c.State
	}
	return all
}

func TestContainersAreFoundAtTheStart(t *testing.T) {
	f := newFake(t, Options{Root: "/lab/node1"}, "lab/node2/"+burstable+"/"+id2, "lab/node1/"+burstable+"/"+id1+"/init.scope", "lab/node1/system.slice")
	node1, node2 := "lab/node1/", "lab/node2/"
	got := states(f.Subscribe().Take(nil))
	require.Equal(t, map[uint64]State{
		f.id("/"): Foreign, f.id("lab"): Foreign,
		f.id(node2): Foreign, f.id(node2 + "kubepods"): Foreign, f.id(node2 + "kubepods/burstable"): Foreign,
		f.id(node2 + burstable): Foreign, f.id(node2 + burstable + "/" + id2): Foreign,
		f.id(node1): Host, f.id(node1 + "kubepods"): Host, f.id(node1 + "kubepods/burstable"): Host, f.id(node1 + burstable): Host,
		f.id(node1 + "system.slice"):                        Host,
		f.id(node1 + burstable + "/" + id1):                 Known,
		f.id(node1 + burstable + "/" + id1 + "/init.scope"): Known,
	}, got)
	// Nobody is asked, so this is all there is to know.
	require.Equal(t, []*Container{{
		Ref: 1, CgroupID: f.id(node1 + burstable + "/" + id1), ID: id1, Pod: Pod{UID: uid}, Unresolved: true,
	}}, f.Containers())
	stats := f.Stats()
	require.Equal(t, Stats{Cgroups: 14, Containers: 1, Unresolved: 1, Walks: 1}, stats)
}

func TestRemovedCgroupsAreForgottenAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime := &resolver{}
		f := newFake(t, Options{Resolver: runtime, Grace: time.Minute}, burstable)
		follower := f.Subscribe()
		own := f.make(burstable + "/" + id1)
		nested := f.make(burstable + "/" + id1 + "/sub")
		f.ask()
		f.removeCgroup(burstable + "/" + id1 + "/sub")
		f.removeCgroup(burstable + "/" + id1)
		require.Empty(t, f.Containers())
		require.Equal(t, 2, f.Stats().Gone)
		// The runtime may tell of it when it is over.
		runtime.set(id1, web)
		time.Sleep(time.Second)
		synctest.Wait()
		got := follower.Take(nil)
		last := got[len(got)-1]
		require.Equal(t, nested, last.CgroupID)
		require.Equal(t, "web", last.Container.Name)
		require.False(t, last.Gone)

		time.Sleep(time.Minute - 2*time.Second)
		f.expire(time.Now())
		require.False(t, follower.Dirty())
		time.Sleep(time.Second)
		f.expire(time.Now())
		got = follower.Take(nil)
		require.Len(t, got, 2)
		require.Equal(t, []uint64{nested, own}, []uint64{got[0].CgroupID, got[1].CgroupID})
		require.True(t, got[0].Gone && got[1].Gone)
		require.Empty(t, f.instances)
		require.Empty(t, f.byPod)
		require.Zero(t, f.Stats().Gone)
	})
}

func TestRemovedCgroupsAreBounded(t *testing.T) {
	f := newFake(t, Options{MaxGone: 10}, burstable)
	follower := f.Subscribe()
	before := f.Stats().Cgroups
	for id := uint64(1 << 40); id < 1<<40+1000; id++ {
		f.handle(event{id: id, parent: f.id(burstable), name: id1})
		if id == 1<<40+500 {
			follower.Take(nil)
		}
		f.handle(event{id: id, name: id1, removed: true})
	}
	require.Equal(t, before+10, f.Stats().Cgroups)
	require.Equal(t, 10, f.Stats().Gone)
	// A follower that takes nothing costs no more than what is there.
	require.LessOrEqual(t, len(follower.pending), 40)
	require.LessOrEqual(t, len(follower.order), 200)
	changes := follower.Take(nil)
	require.LessOrEqual(t, len(changes), 40)
	seen := make(map[uint64]bool)
	for _, c := range changes {
		require.False(t, seen[c.CgroupID], "one change for each")
		seen[c.CgroupID] = true
	}
}

func TestWalkingAgainFindsWhatWasLost(t *testing.T) {
	f := newFake(t, Options{}, burstable+"/"+id1+"/sub")
	follower := f.Subscribe()
	follower.Take(nil)
	one, sub := f.id(burstable+"/"+id1), f.id(burstable+"/"+id1+"/sub")
	// A cgroup whose parent the tracker could not tell of.
	require.NoError(t, os.MkdirAll(filepath.Join(f.dir, burstable, id2, "sub"), 0o755))
	two, below := f.id(burstable+"/"+id2), f.id(burstable+"/"+id2+"/sub")
	f.handle(event{id: below, parent: two, name: "sub"})
	require.Equal(t, []Change{{CgroupID: below, State: Foreign}}, follower.Take(nil))
	require.NoError(t, os.RemoveAll(filepath.Join(f.dir, burstable, id1)))
	require.NoError(t, f.walk())
	require.Equal(t, map[uint64]State{two: Known, below: Known}, states(follower.Take(nil)))
	require.Len(t, f.Containers(), 1)
	require.Equal(t, id2, f.Containers()[0].ID)
	require.Equal(t, 2, f.Stats().Gone)
	// They are known for a while.
	require.Equal(t, Known, f.cgroups[one].change().State)
	require.Equal(t, Known, f.cgroups[sub].change().State)
	require.NoError(t, f.walk())
	require.False(t, follower.Dirty())
}

func TestCgroupsOutsideOfTheTreeAreForeign(t *testing.T) {
	f := newFake(t, Options{}, burstable)
	follower := f.Subscribe()
	follower.Take(nil)
	const above, other, unheard = 1 << 40, 1<<40 + 1, 1<<40 + 2
	f.handle(event{id: other, parent: above, name: id1})
	require.Equal(t, []Change{{CgroupID: other, State: Foreign}}, follower.Take(nil))
	follower.Ask(unheard)
	follower.Ask(other)
	follower.Ask(f.id(burstable))
	f.answer(f.takeAsked())
	require.Equal(t, []Change{{CgroupID: unheard, State: Foreign}}, follower.Take(nil))
	require.Empty(t, f.takeAsked())
	// After a loss it can't be said whether they are there; who still meets them asks.
	require.NoError(t, f.walk())
	got := follower.Take(nil)
	require.Len(t, got, 2)
	require.True(t, got[0].Gone && got[1].Gone)
}

func TestTheNodeIsFoundByThisProcess(t *testing.T) {
	f := newFake(t, Options{}, "lab/node1/"+burstable+"/"+id1, "lab/node2/"+burstable+"/"+id2)
	for _, test := range []struct {
		name string
		own  own
		want string
	}{
		{"by its cgroup", own{ids: []uint64{1 << 40, f.id("lab/node2/" + burstable + "/" + id2)}, path: "/"}, "/lab/node2"},
		{"by its path", own{ids: []uint64{1 << 40}, path: "/lab/node1/" + burstable + "/" + id1}, "/lab/node1"},
		{"not in a pod", own{ids: []uint64{f.id("lab")}, path: "/lab"}, "/"},
		{"unknown", own{path: "/elsewhere/" + burstable + "/" + id1}, "/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.Registry.own, f.root = test.own, ""
			require.NoError(t, f.walk())
			require.Equal(t, test.want, f.root)
		})
	}
}

func TestARootThatIsNotThereIsAnError(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	r := newRegistry(Options{Root: "node1"}.withDefaults(), &tree{dir: root})
	require.EqualError(t, r.start(), "there is no cgroup /node1, in which all of this node should be")
}

func TestACloseSubscriptionHearsNothing(t *testing.T) {
	f := newFake(t, Options{}, burstable)
	follower := f.Subscribe()
	follower.Take(nil)
	follower.Close()
	f.make(burstable + "/" + id1)
	require.False(t, follower.Dirty())
	require.Empty(t, f.followers)
}

// TestEverythingAtOnce is for the race detector.
func TestEverythingAtOnce(t *testing.T) {
	runtime := &resolver{}
	f := newFake(t, Options{Resolver: runtime, MaxGone: 3, ResolveTimeout: 5 * time.Millisecond}, burstable)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		all.Go(func() {
			follower := f.Subscribe()
			defer follower.Close()
			var changes []Change
			for {
				if follower.Dirty() {
					changes = follower.Take(changes[:0])
				}
				follower.Ask(1 << 40)
				f.Stats()
				f.Containers()
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	for i := range 50 {
		f.make(burstable + "/" + id1)
		f.ask()
		runtime.set(id1, web)
		f.SetPods(web.Pod)
		f.SetStale(i%2 == 0)
		f.removeCgroup(burstable + "/" + id1)
		asked := f.takeAsked()
		f.mu.Lock()
		f.answer(asked)
		f.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	close(stop)
	all.Wait()
}
