// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"nodegadget.dev/pkg/container"
)

const (
	// DefaultHold is how long a record waits for its container to become known: longer
	// than the registry asks the runtime, so that a busy node still gets its answer.
	DefaultHold = 5 * time.Second
	// DefaultHoldBytes is how much memory waiting records may take.
	DefaultHoldBytes = 4 << 20
)

// References that stand for no container of the registry, which counts from 1.
const (
	// HostRef is that of all that is in no container.
	HostRef = 0
	// UnresolvedRef is that of a container of which not even the ids are known.
	UnresolvedRef = math.MaxUint32
	// HiddenRef is that of a process that the run must not see, in a record about
	// another one that it may see.
	HiddenRef = math.MaxUint32 - 1
)

// Verdict is what the kernel's container filter is to do with a cgroup's records.
type Verdict uint8

// The verdicts. Records of a cgroup without one are let through.
const (
	Unknown Verdict = iota
	In
	Out
)

// Changes tell what becomes known of cgroups, and may be asked for one. A
// *container.Subscription does.
type Changes interface {
	Dirty() bool
	Take(changes []container.Change) []container.Change
	Ask(cgroupID uint64)
}

// Options of an Enricher.
type Options struct {
	// Containers are followed. Required; the caller closes the subscription.
	Containers Changes
	// Selection is what may be seen.
	Selection Selection
	// Process made the record. Target is a second process that it is about, nil if
	// records name none. A record is shown if either may be seen.
	Process Identity
	Target  *Identity
	// SetVerdict tells the kernel's filter, nil if there is none. With a Target there
	// must be none: it would drop what is shown for the target's sake. An error, which
	// it has to report itself, costs no more than the filter's help.
	SetVerdict func(cgroupID uint64, verdict Verdict) error
	// Define explains a reference, before it is used first and when there are news.
	Define func(*container.Container)
	// Emit gets the records that may be seen; their bytes are valid until it returns.
	// It says whether anybody wanted the record.
	Emit func(ref, target uint32, record []byte) bool
	// Hold is how long a record waits at most, 0 for DefaultHold; HoldBytes how much
	// may wait, 0 for DefaultHoldBytes: the oldest go first when it is exceeded.
	Hold      time.Duration
	HoldBytes int
}

// Enricher attaches containers to the records of one run. Its methods are called by
// the tracer's goroutine, but for the counters, which anyone may read.
type Enricher struct {
	opts     Options
	all      bool
	cgroups  map[uint64]*cgroup
	subjects map[uint32]*subject
	changes  []container.Change
	held     holdList
	overdue  int
	// round is how often all explanations had to begin anew, counted from 1.
	round     uint64
	explained [2]uint64

	unresolved, withheld atomic.Uint64
	// filtered counts the records that the run must not see.
	filtered uint64
}

// New makes an Enricher that knows what the registry knows already.
func New(opts Options) (*Enricher, error) {
	if opts.Target != nil && opts.SetVerdict != nil {
		return nil, errors.New("records about two processes can't be filtered by the container of one")
	}
	if opts.Hold == 0 {
		opts.Hold = DefaultHold
	}
	if opts.HoldBytes == 0 {
		opts.HoldBytes = DefaultHoldBytes
	}
	e := &Enricher{
		opts: opts, all: opts.Selection.All(), round: 1,
		cgroups: map[uint64]*cgroup{}, subjects: map[uint32]*subject{},
	}
	// A row for the whole machine, as tables may have, is of no cgroup.
	machine := &cgroup{sight: hidden}
	if e.all && opts.Selection.Host || opts.Selection.Machine {
		machine.sight = shown
	}
	e.cgroups[0] = machine
	e.update()
	return e, nil
}

// Unresolved counts the records that were emitted although it isn't known in which
// container they were made.
func (e *Enricher) Unresolved() uint64 { return e.unresolved.Load() }

// Withheld counts the records that were not emitted for that reason.
func (e *Enricher) Withheld() uint64 { return e.withheld.Load() }

// Record takes a record. It may change the record's bytes.
func (e *Enricher) Record(record []byte) {
	if e.opts.Containers.Dirty() {
		e.update()
	}
	id := e.opts.Process.CgroupID(record)
	c := e.cgroups[id]
	if c == nil || c.sight == undecided || c.first != nil {
		e.hold(e.meet(id), record)
		return
	}
	if e.opts.Target == nil {
		e.pass(c, record)
		return
	}
	target := e.meet(e.opts.Target.CgroupID(record))
	if target.sight == undecided {
		e.hold(c, record)
		return
	}
	e.passBoth(c, target, record)
}

// Flush takes news of containers, and lets go of records that have waited long
// enough. It is to be called at least every 20 ms.
func (e *Enricher) Flush() {
	if e.opts.Containers.Dirty() {
		e.update()
	}
	if e.held.oldest == nil {
		return
	}
	now := time.Now()
	for h := e.held.oldest; h != nil && !h.due.After(now); h = e.held.oldest {
		e.giveUp(h)
	}
}

// Waiting says whether any record waits.
func (e *Enricher) Waiting() bool { return e.held.oldest != nil }

// Again says that explanations have not arrived: each is given once more before the
// reference's next use.
func (e *Enricher) Again() { e.round++ }

// Release lets go of all records that wait, at the end or whenever they can't wait on.
func (e *Enricher) Release() {
	e.Flush()
	for e.held.oldest != nil {
		e.release(e.held.oldest)
	}
}

// pass emits a record about one process, if the run may see it.
func (e *Enricher) pass(c *cgroup, record []byte) {
	if !e.visible(c) {
		e.drop(c.sight != hidden)
		return
	}
	e.count(c, e.opts.Emit(e.refer(c), HostRef, record))
}

// passBoth emits a record about two processes, if the run may see one of them. What
// it tells of the other is blanked if the run mustn't see that one.
func (e *Enricher) passBoth(c, target *cgroup, record []byte) {
	if !e.visible(c) && !e.visible(target) {
		e.drop(c.sight != hidden || target.sight != hidden)
		return
	}
	ref, targetRef := e.expose(c, &e.opts.Process, record), e.expose(target, e.opts.Target, record)
	e.count(c, e.opts.Emit(ref, targetRef, record))
}

// visible says whether records of a cgroup may be seen. What isn't known may be by
// who may see every container.
func (e *Enricher) visible(c *cgroup) bool {
	return c.sight == shown || c.sight != hidden && e.all
}

// Maker says in which container a cgroup is, nil if in none or if that isn't known yet,
// and whether its records may be seen.
func (e *Enricher) Maker(cgroupID uint64) (c *container.Container, visible bool) {
	e.Flush()
	maker := e.meet(cgroupID)
	if maker.subject != nil {
		c = maker.subject.container
	}
	return c, e.visible(maker)
}

// count notes that a record of a cgroup was emitted.
func (e *Enricher) count(c *cgroup, wanted bool) {
	if wanted && c.sight != shown && c.sight != hidden {
		e.unresolved.Add(1)
	}
}

func (e *Enricher) drop(unknown bool) {
	if unknown {
		e.withheld.Add(1)
	} else {
		e.filtered++
	}
}

// expose returns the reference of a process, or hides all that the record has of it.
func (e *Enricher) expose(c *cgroup, identity *Identity, record []byte) uint32 {
	if e.visible(c) {
		return e.refer(c)
	}
	identity.blank(record)
	e.explain(HiddenRef)
	return HiddenRef
}

// refer returns a cgroup's reference, which it explains if it hasn't yet.
func (e *Enricher) refer(c *cgroup) uint32 {
	switch {
	case c.subject != nil:
		e.tell(c.subject)
		return c.subject.container.Ref
	case c.sight == shown:
		return HostRef
	}
	e.explain(UnresolvedRef)
	return UnresolvedRef
}

// explain explains one of the two references that stand for no container.
func (e *Enricher) explain(ref uint32) {
	if told := &e.explained[ref-HiddenRef]; *told != e.round {
		*told = e.round
		e.opts.Define(&container.Container{Ref: ref, Unresolved: true})
	}
}
