// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"
	"time"
	"unsafe"
)

// held is a record that waits, in two lists: that of its cgroup, and that of all in
// the order in which they came. The oldest of all is the first of its cgroup.
type held struct {
	cgroup, target *cgroup
	record         []byte
	due            time.Time
	// registered says that the target wakes this record's cgroup.
	registered bool
	after      *held
	older      *held
	younger    *held
}

func (h *held) size() int { return cap(h.record) + int(unsafe.Sizeof(held{})) }

// holdList are all records that wait.
type holdList struct {
	oldest, youngest *held
	bytes            int
}

func (l *holdList) add(h *held) {
	h.older = l.youngest
	if l.youngest != nil {
		l.youngest.younger = h
	} else {
		l.oldest = h
	}
	l.youngest = h
	l.bytes += h.size()
}

func (l *holdList) remove(h *held) {
	if h.older != nil {
		h.older.younger = h.younger
	} else {
		l.oldest = h.younger
	}
	if h.younger != nil {
		h.younger.older = h.older
	} else {
		l.youngest = h.older
	}
	l.bytes -= h.size()
}

// hold keeps a copy of a record until it is known who made it, and whom it is about.
func (e *Enricher) hold(c *cgroup, record []byte) {
	h := &held{cgroup: c, record: bytes.Clone(record), due: time.Now().Add(e.opts.Hold)}
	if e.opts.Target != nil {
		h.target = e.meet(e.opts.Target.CgroupID(record))
	}
	if c.last != nil {
		c.last.after = h
	} else {
		c.first = h
	}
	c.last = h
	e.held.add(h)
	for e.held.bytes > e.opts.HoldBytes {
		oldest := e.held.oldest
		e.release(oldest)
		e.drain(oldest.cgroup)
	}
	e.drain(c)
}

// release emits a record that waits, which must be the first of its cgroup.
func (e *Enricher) release(h *held) {
	c := h.cgroup
	if c.first = h.after; c.first == nil {
		c.last = nil
	}
	e.held.remove(h)
	if h.target == nil {
		e.pass(c, h.record)
	} else {
		e.passBoth(c, h.target, h.record)
	}
}

// giveUp stops waiting for news of those that a record is about.
func (e *Enricher) giveUp(h *held) {
	e.giveUpOn(h.cgroup)
	if h.target != nil {
		e.giveUpOn(h.target)
		e.wake(h.target)
	}
	e.wake(h.cgroup)
}

// wake emits what has waited for news of a cgroup.
func (e *Enricher) wake(c *cgroup) {
	e.drain(c)
	waiters := c.waiters
	c.waiters = nil
	for _, w := range waiters {
		e.drain(w)
	}
}

// drain emits a cgroup's records up to the first that has to wait on.
func (e *Enricher) drain(c *cgroup) {
	for c.sight != undecided && c.first != nil {
		h := c.first
		if h.target != nil && h.target.sight == undecided {
			if !h.registered {
				h.registered = true
				h.target.waiters = append(h.target.waiters, c)
			}
			return
		}
		e.release(h)
	}
}
