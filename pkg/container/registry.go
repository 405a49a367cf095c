// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

const (
	// period is how often it is looked whether the tracker lost something, what
	// may be forgotten, and who asked for an unknown cgroup.
	period = 100 * time.Millisecond
	// lookups is how many questions the runtime gets at a time.
	lookups = 8
	// ownCgroups is where this process sees cgroups, maybe only its own.
	ownCgroups = "/sys/fs/cgroup"
)

// Registry knows the containers of this node. Its methods may be called
// concurrently, but Run only once.
type Registry struct {
	opts      Options
	hierarchy Hierarchy
	tree      *tree
	tracker   *tracker
	own       own
	slots     chan struct{}

	mu sync.Mutex // of what follows
	// root is the path of the cgroup that holds this node.
	root      string
	cgroups   map[uint64]*cgroup
	gone      []*cgroup // removed, the oldest first
	instances map[*instance]bool
	unasked   []*instance // about which the runtime has to be asked
	lastRef   uint32
	pods      map[string]Pod
	byPod     map[string][]*instance
	stale     bool
	followers map[*Subscription]bool
	asked     map[uint64]bool
	// incomplete says that the last walk couldn't see all of the tree.
	incomplete                             bool
	walks, lost, unresolved, resolveErrors uint64
}

// own is what is known of this process's own cgroup.
type own struct {
	ids  []uint64
	path string
}

// Stats are numbers about a registry; counts only grow.
type Stats struct {
	// Cgroups are those known, Containers those that run, Pending those among them
	// that the runtime hasn't told of, Gone the removed cgroups still known.
	Cgroups, Containers, Pending, Gone int
	// Unresolved counts containers of which the runtime told nothing in time.
	Unresolved uint64
	// ResolveErrors counts how often the runtime couldn't be asked.
	ResolveErrors uint64
	// TrackerLost counts cgroups made or removed that the kernel couldn't tell of;
	// the tree was walked again for them. Walks counts that.
	TrackerLost, Walks uint64
	// Resolver is the name of who is asked, "" without one.
	Resolver string
}

// Open loads the tracker and finds the containers that are there. From then on
// news pile up in the kernel; Run takes them.
func Open(opts Options) (*Registry, error) {
	opts = opts.withDefaults()
	tree, err := openTree(opts.Cgroups)
	if err != nil {
		return nil, err
	}
	r := newRegistry(opts, tree)
	if err := r.open(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func newRegistry(opts Options, tree *tree) *Registry {
	return &Registry{
		opts: opts, hierarchy: tree.hierarchy, tree: tree, slots: make(chan struct{}, lookups),
		cgroups: make(map[uint64]*cgroup), instances: make(map[*instance]bool),
		pods: make(map[string]Pod), byPod: make(map[string][]*instance),
		followers: make(map[*Subscription]bool), asked: make(map[uint64]bool),
	}
}

// open loads the tracker before it walks the tree, so that nothing falls between.
func (r *Registry) open() error {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("finding this process's cgroup: %w", err)
	}
	member, err := readMembership(string(text), r.tree.hierarchy)
	if err != nil {
		return fmt.Errorf("finding this process's cgroup: %w", err)
	}
	if r.tracker, err = newTracker(r.opts.Types, member.number, r.opts.buffer); err != nil {
		return err
	}
	r.own = own{ids: ownIDs(ownCgroups, r.tree.hierarchy, member.path), path: member.path}
	return r.start()
}

// start walks the tree for the first time.
func (r *Registry) start() error {
	if r.opts.Root != "" {
		r.root = path.Clean("/" + r.opts.Root)
	}
	err := r.walk()
	if len(r.cgroups) == 0 {
		return err
	}
	if err != nil {
		r.opts.Log.Warn("not all cgroups could be read", "error", err)
	}
	if !r.hasRoot() {
		return fmt.Errorf("there is no cgroup %s, in which all of this node should be", r.root)
	}
	stats := r.Stats()
	r.opts.Log.Info("following cgroups", "hierarchy", r.tree.hierarchy.String(), "root", r.root,
		"cgroups", stats.Cgroups, "containers", stats.Containers)
	return nil
}

func (r *Registry) hasRoot() bool {
	for _, c := range r.cgroups {
		if c.path == r.root {
			return true
		}
	}
	return false
}

// Run follows the cgroups that are made and removed, and asks the runtime about
// containers, until ctx ends; then it returns nil.
func (r *Registry) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, r.tracker.wake)()
	for ctx.Err() == nil {
		asked := r.takeAsked()
		if err := r.follow(func() { r.resolveAll(ctx, &workers) }); err != nil {
			return err
		}
		if err := r.keepHouse(asked); err != nil {
			return err
		}
	}
	return nil
}

// follow takes what the tracker tells for a period, and then until nothing is
// left: whatever had been told when it began is taken when it ends.
func (r *Registry) follow(after func()) error {
	after()
	end := time.Now().Add(period)
	r.tracker.setDeadline(end)
	for {
		e, err := r.tracker.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrFlushed):
			return nil
		case err != nil:
			return fmt.Errorf("reading what the tracker tells: %w", err)
		}
		r.handle(e)
		after()
		if e.last && time.Now().After(end) {
			return nil
		}
	}
}

// keepHouse does what has to be done from time to time.
func (r *Registry) keepHouse(asked []uint64) error {
	lost, err := r.tracker.lost()
	if err != nil {
		return err
	}
	if lost != r.lost {
		r.opts.Log.Warn("the kernel made or removed more cgroups than could be told of, reading all of them",
			"lost", lost-r.lost)
		r.mu.Lock()
		r.lost = lost
		r.mu.Unlock()
		if err := r.walk(); err != nil {
			r.opts.Log.Warn("not all cgroups could be read", "error", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(time.Now())
	r.answer(asked)
	return nil
}

// Close unloads the tracker. It must not be called while Run runs.
func (r *Registry) Close() {
	if r.tracker != nil {
		r.tracker.close()
	}
	r.tree.close()
}

// Hierarchy says which cgroup ids this registry knows; programs must report those.
func (r *Registry) Hierarchy() Hierarchy { return r.hierarchy }

// Containers are those that run, ordered by Ref.
func (r *Registry) Containers() []*Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Container
	for i := range r.instances {
		if i.own.removed.IsZero() {
			all = append(all, i.current)
		}
	}
	slices.SortFunc(all, func(a, b *Container) int { return cmp.Compare(a.Ref, b.Ref) })
	return all
}

// Container is the one with the reference, nil if it is no more.
func (r *Registry) Container(ref uint32) *Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.instances {
		if i.current.Ref == ref {
			return i.current
		}
	}
	return nil
}

// Stats are the numbers of now.
func (r *Registry) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	stats := Stats{
		Cgroups: len(r.cgroups), Gone: len(r.gone), Unresolved: r.unresolved, ResolveErrors: r.resolveErrors,
		TrackerLost: r.lost, Walks: r.walks,
	}
	for i := range r.instances {
		if !i.own.removed.IsZero() {
			continue
		}
		stats.Containers++
		if !i.known {
			stats.Pending++
		}
	}
	if r.opts.Resolver != nil {
		stats.Resolver = r.opts.Resolver.Name()
	}
	return stats
}
