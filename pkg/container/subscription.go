// SPDX-License-Identifier: Apache-2.0

package container

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Subscription is one follower's view of the changes. Its methods may be called
// concurrently. A follower that never takes costs no more than what is known, and
// what it was told before.
type Subscription struct {
	registry *Registry
	dirty    atomic.Bool

	mu      sync.Mutex // of what follows
	pending map[uint64]pendingChange
	// order has the cgroups of pending, and some that were dropped from it.
	order []uint64
}

type pendingChange struct {
	Change
	// first says that the follower knows nothing of this cgroup yet.
	first bool
}

// Subscribe begins with a change for each cgroup that is known.
func (r *Registry) Subscribe() *Subscription {
	s := &Subscription{registry: r, pending: make(map[uint64]pendingChange)}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(r.cgroups)) {
		s.add(r.cgroups[id].change(), true)
	}
	r.followers[s] = true
	return s
}

// publish tells all followers what a cgroup is now.
func (r *Registry) publish(c *cgroup) {
	r.send(c.change(), !c.told)
	c.told = true
}

func (r *Registry) send(change Change, first bool) {
	for s := range r.followers {
		s.add(change, first)
	}
}

func (s *Subscription) add(change Change, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, waits := s.pending[change.CgroupID]
	if waits {
		first = before.first
	} else {
		s.order = append(s.order, change.CgroupID)
	}
	// Who has heard nothing of it has nothing to forget.
	if change.Gone && first {
		delete(s.pending, change.CgroupID)
		s.compact()
		return
	}
	s.pending[change.CgroupID] = pendingChange{change, first}
	s.dirty.Store(true)
}

// compact drops what isn't pending any more, when it is most of the order.
func (s *Subscription) compact() {
	if len(s.order) < 2*len(s.pending)+64 {
		return
	}
	s.order = slices.DeleteFunc(s.order, func(id uint64) bool {
		_, waits := s.pending[id]
		return !waits
	})
}

// Dirty says whether Take would append anything. It costs an atomic load.
func (s *Subscription) Dirty() bool { return s.dirty.Load() }

// Take appends the changes since the last call: at most one for each cgroup, its
// latest, in the order in which the cgroups first changed.
func (s *Subscription) Take(changes []Change) []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty.Store(false)
	for _, id := range s.order {
		if change, waits := s.pending[id]; waits {
			changes = append(changes, change.Change)
			delete(s.pending, id)
		}
	}
	s.order = s.order[:0]
	return changes
}

// Ask wants to be told of a cgroup that the registry hasn't mentioned. If the
// tree doesn't have it, and the tracker hasn't told of it, then it is Foreign.
func (s *Subscription) Ask(cgroupID uint64) {
	s.registry.mu.Lock()
	s.registry.asked[cgroupID] = true
	s.registry.mu.Unlock()
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.registry.mu.Lock()
	delete(s.registry.followers, s)
	s.registry.mu.Unlock()
}

// takeAsked are the cgroups that were asked for until now.
func (r *Registry) takeAsked() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) == 0 {
		return nil
	}
	asked := slices.Collect(maps.Keys(r.asked))
	clear(r.asked)
	return asked
}

// answer tells of cgroups that were asked for before all events of the tracker
// that waited were taken, and before the tree was read again for those it lost. The
// lock is held.
func (r *Registry) answer(asked []uint64) {
	if r.incomplete {
		return
	}
	for _, id := range asked {
		if r.cgroups[id] == nil {
			r.add(found{id: id})
		}
	}
}
