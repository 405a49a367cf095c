// SPDX-License-Identifier: Apache-2.0

package container

import (
	"path"
	"slices"
	"strings"
	"time"
)

// cgroup is one that is there, or was until a while ago.
type cgroup struct {
	id uint64
	// path is counted from where the tree is mounted; "" outside of it.
	path string
	// in is the container that the cgroup belongs to, nil for none.
	in *instance
	// foreign says that it isn't this node's.
	foreign bool
	// removed is when it was, zero for one that is there.
	removed time.Time
	// told says that followers have heard of it.
	told bool
}

func (c *cgroup) change() Change {
	change := Change{CgroupID: c.id}
	switch {
	case c.foreign:
		change.State = Foreign
	case c.in == nil:
		change.State = Host
	case !c.in.known:
		change.State = Pending
	default:
		change.State, change.Container = Known, c.in.current
	}
	return change
}

// handle takes news from the tracker.
func (r *Registry) handle(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.removed {
		if c := r.cgroups[e.id]; c != nil {
			r.remove(c)
		}
		return
	}
	// The walk may have found it already.
	if r.cgroups[e.id] != nil {
		return
	}
	name := ""
	if above := r.cgroups[e.parent]; above != nil && above.path != "" {
		name = path.Join(above.path, e.name)
	}
	r.add(found{id: e.id, parent: e.parent, path: name})
}

// add takes a new cgroup in. Those outside of the tree that is mounted have no path.
func (r *Registry) add(f found) {
	c := &cgroup{id: f.id, path: f.path, foreign: f.path == "" || !isBelow(f.path, r.root)}
	if !c.foreign {
		c.in = r.containerOf(c, r.cgroups[f.parent])
	}
	r.cgroups[c.id] = c
	r.publish(c)
}

// containerOf is the container that a new cgroup is in. What is below a
// container's cgroup is its own business.
func (r *Registry) containerOf(c, above *cgroup) *instance {
	if above != nil && above.in != nil {
		above.in.cgroups = append(above.in.cgroups, c)
		return above.in
	}
	who, ok := identify(strings.TrimPrefix(c.path, r.root))
	if !ok {
		return nil
	}
	return r.newInstance(c, who)
}

// remove keeps a cgroup known for a while: records of it may still come.
func (r *Registry) remove(c *cgroup) {
	if !c.removed.IsZero() {
		return
	}
	c.removed = time.Now()
	r.gone = append(r.gone, c)
	r.expire(c.removed)
}

// expire forgets removed cgroups whose time is over, or which are too many.
func (r *Registry) expire(now time.Time) {
	for len(r.gone) > 0 && (len(r.gone) > r.opts.MaxGone || now.Sub(r.gone[0].removed) >= r.opts.Grace) {
		r.forget(r.gone[0])
		r.gone[0] = nil
		r.gone = r.gone[1:]
	}
}

func (r *Registry) forget(c *cgroup) {
	delete(r.cgroups, c.id)
	if c.in != nil {
		c.in.cgroups = slices.DeleteFunc(c.in.cgroups, func(other *cgroup) bool { return other == c })
		if len(c.in.cgroups) == 0 {
			r.forgetInstance(c.in)
		}
	}
	change := c.change()
	change.Gone = true
	r.send(change, false)
}

// walk makes the registry know what the tree has, after the start and when the
// tracker has lost something. Events that still wait in its buffer may repeat it.
func (r *Registry) walk() error {
	var all []found
	err := r.tree.walk(func(f found) { all = append(all, f) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.walks++
	r.incomplete = err != nil
	if r.root == "" {
		r.root = r.findRoot(all)
	}
	there := make(map[uint64]bool, len(all))
	for _, f := range all {
		there[f.id] = true
		// One without a path was thought to be outside of the tree.
		if c := r.cgroups[f.id]; c == nil || c.path == "" {
			r.add(f)
		}
	}
	for id, c := range r.cgroups {
		switch {
		case there[id]:
		case c.path == "" && c.removed.IsZero():
			// Whether it is there can't be seen. It is asked for if it still matters.
			r.forget(c)
		case !r.incomplete:
			r.remove(c)
		}
	}
	return err
}

// findRoot is the cgroup that holds this node: above the pods' if this process
// is in a pod.
func (r *Registry) findRoot(all []found) string {
	for _, id := range r.own.ids {
		for _, f := range all {
			if f.id == id {
				return nodeRoot(f.path)
			}
		}
	}
	if slices.ContainsFunc(all, func(f found) bool { return f.path == r.own.path }) {
		return nodeRoot(r.own.path)
	}
	return "/"
}
