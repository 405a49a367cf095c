// SPDX-License-Identifier: Apache-2.0

package enrich

import "nodegadget.dev/pkg/container"

// maxOverdue bounds how many cgroups are remembered of which the registry has never
// told: it may have missed that they were made and removed again.
const maxOverdue = 4096

// cgroup is what is known of one.
type cgroup struct {
	id      uint64
	sight   sight
	verdict Verdict
	// overdue says that it is unresolved only because the registry was silent.
	overdue bool
	// subject is the container it is in, nil if there is none or it isn't known.
	subject *subject
	// first and last are the records of it that wait.
	first, last *held
	// waiters are cgroups whose first record waits for this one, as its target.
	waiters []*cgroup
}

// subject is a container that cgroups are in.
type subject struct {
	container *container.Container
	cgroups   int
	// told is the round in which it was last explained, news that it has changed since.
	told uint64
	news bool
}

// tell explains a container, unless that was done.
func (e *Enricher) tell(s *subject) {
	if s.told != e.round || s.news {
		s.told, s.news = e.round, false
		e.opts.Define(s.container)
	}
}

// meet returns the cgroup of a record, and asks for it if it is unknown.
func (e *Enricher) meet(id uint64) *cgroup {
	c := e.cgroups[id]
	if c == nil {
		c = e.add(id)
		e.opts.Containers.Ask(id)
	}
	return c
}

func (e *Enricher) add(id uint64) *cgroup {
	c := &cgroup{id: id}
	e.cgroups[id] = c
	return c
}

// update takes what has become known.
func (e *Enricher) update() {
	e.changes = e.opts.Containers.Take(e.changes[:0])
	for _, change := range e.changes {
		e.apply(change)
	}
	// They point to containers that may be forgotten.
	clear(e.changes)
}

func (e *Enricher) apply(change container.Change) {
	c := e.cgroups[change.CgroupID]
	if c == nil {
		c = e.add(change.CgroupID)
	}
	if change.State != 0 {
		e.assign(c, change.Container)
		e.see(c, e.opts.Selection.sightOf(change))
	}
	if change.Gone {
		e.forget(c)
	}
	e.wake(c)
}

// assign puts a cgroup into a container, or into none.
func (e *Enricher) assign(c *cgroup, now *container.Container) {
	if c.subject != nil && (now == nil || c.subject.container.Ref != now.Ref) {
		e.leave(c)
		c.subject = nil
	}
	if now == nil {
		return
	}
	s := e.subjects[now.Ref]
	if s == nil {
		s = &subject{container: now}
		e.subjects[now.Ref] = s
	}
	if c.subject == nil {
		c.subject = s
		s.cgroups++
	}
	if s.container != now {
		s.container, s.news = now, true
	}
}

// leave takes a cgroup out of the count of its container's.
func (e *Enricher) leave(c *cgroup) {
	if c.subject == nil {
		return
	}
	if c.subject.cgroups--; c.subject.cgroups == 0 {
		delete(e.subjects, c.subject.container.Ref)
	}
}

// see notes what is decided about a cgroup, and tells the kernel's filter and, if
// they know its container already, those who get the records.
func (e *Enricher) see(c *cgroup, now sight) {
	// A registry that still doesn't know doesn't make records wait again.
	if now == undecided && c.overdue {
		return
	}
	if c.overdue {
		c.overdue = false
		e.overdue--
	}
	c.sight = now
	if s := c.subject; s != nil && s.told == e.round && e.visible(c) {
		e.tell(s)
	}
	switch now {
	case shown:
		e.setVerdict(c, In)
	case hidden:
		e.setVerdict(c, Out)
	default:
		e.setVerdict(c, Unknown)
	}
}

func (e *Enricher) setVerdict(c *cgroup, verdict Verdict) {
	if e.opts.SetVerdict == nil || c.verdict == verdict {
		return
	}
	if e.opts.SetVerdict(c.id, verdict) == nil {
		c.verdict = verdict
	}
}

// giveUpOn stops waiting for news of a cgroup.
func (e *Enricher) giveUpOn(c *cgroup) {
	if c.sight != undecided {
		return
	}
	c.sight, c.overdue = unresolved, true
	if e.overdue++; e.overdue > maxOverdue {
		e.forgetOverdue()
	}
}

// forgetOverdue makes room. A cgroup that it forgets is waited for anew.
func (e *Enricher) forgetOverdue() {
	for _, c := range e.cgroups {
		if c.overdue && c.first == nil {
			delete(e.cgroups, c.id)
			c.overdue = false
			e.overdue--
		}
	}
}

// forget removes a cgroup that is no more. It has made its last record long ago.
func (e *Enricher) forget(c *cgroup) {
	e.giveUpOn(c)
	for c.first != nil {
		e.release(c.first)
	}
	if c.overdue {
		e.overdue--
	}
	e.setVerdict(c, Unknown)
	e.leave(c)
	delete(e.cgroups, c.id)
}
