// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"time"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

// stage is how far a member has come.
type stage uint8

const (
	// outside members have asked to join.
	outside stage = iota
	// waiting ones are in, and take records from the next interval on.
	waiting
	taking
	// leaving ones take what was recorded before they asked to leave.
	leaving
	// lingering ones have had all, but for records that wait for their containers.
	lingering
	over
)

// member is one of those for whom a program is loaded. What it may see, and only that,
// comes in its queue, which is closed when nothing comes any more.
type member struct {
	program *program
	plan    *plan
	queue   *queue
	// in is closed when the member is in, or can't come to be.
	in chan struct{}
	// left says that it has asked for the end; programs.mu guards it.
	left bool
	// failure is why the program ended, and stranded that this was before the member was in.
	// To be read when the queue, or in, is closed.
	failure  error
	stranded bool

	// What follows is the tracer's goroutine's. Others read party once the member is in.
	stage stage
	party *party
	mark  tracer.Mark
	due   time.Time

	mu sync.Mutex // of what follows
	// begun says that losses in the kernel concern it, those beyond baseline; unresolved
	// and withheld are what its party had counted before.
	begun                bool
	baseline             tracer.Loss
	unresolved, withheld uint64
	// excesses are what was left out because its makers, by what they are called, made
	// too much.
	excesses map[string]*excess
	// final is what it has lost in all, when nothing is added any more.
	final    *wire.Loss
	finalErr error
}

func newMember(p *program, plan *plan, queueSize int) *member {
	if plan.queueSize > 0 {
		queueSize = plan.queueSize
	}
	q := newQueue(queueSize, plan.filter, plan.object.Spec.Source.Kind != gadget.Events)
	q.buckets = plan.buckets
	return &member{program: p, plan: plan, queue: q, in: make(chan struct{})}
}

// gadget is the name of what the member runs.
func (m *member) gadget() string { return m.plan.object.Spec.Name }

// programID is a name that the member shares with those who share its program.
func (m *member) programID() string { return m.program.id }

// leave asks for the end. What the kernel has recorded before still comes in the queue,
// which is closed then. It doesn't wait for that, and may be called more than once.
func (m *member) leave() { m.program.release(m) }

// abandon leaves, and waits until all is released. Nobody else may read the queue.
func (m *member) abandon() {
	m.leave()
	for range m.queue.batches {
	}
}

// records counts those that passed the member's filter, but for what was throttled.
func (m *member) records() uint64 { return m.queue.records.Load() }

// loss is what the member has not got since it joined.
func (m *member) loss() (*wire.Loss, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.final != nil {
		return m.final, m.finalErr
	}
	return m.count()
}

func (m *member) count() (*wire.Loss, error) {
	loss := &wire.Loss{Queue: m.queue.lost.Load(), Throttled: m.queue.throttled.Load()}
	if !m.begun {
		return loss, nil
	}
	unresolved, withheld := m.party.intake.counts()
	loss.Unresolved, loss.Withheld = unresolved-m.unresolved, withheld-m.withheld
	lost, err := m.program.source.Lost()
	if err != nil {
		return loss, err
	}
	excess := m.excess()
	loss.Kernel, loss.Skipped = lost.Records-m.baseline.Records+excess.Crowded, lost.Skipped-m.baseline.Skipped
	loss.Throttled += excess.OverBudget
	return loss, nil
}

// begin makes the member's what the kernel loses beyond baseline, and its party from now on.
func (m *member) begin(baseline tracer.Loss) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun, m.baseline = true, baseline
	m.unresolved, m.withheld = m.party.intake.counts()
}

// freeze keeps the member's losses as they are.
func (m *member) freeze() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.final == nil {
		m.final, m.finalErr = m.count()
	}
}

// close ends the member, which has been parted from its program or was never in it.
func (m *member) close(err error) {
	m.failure = err
	if m.stage == outside {
		m.stranded = true
		close(m.in)
	}
	m.stage = over
	m.queue.close()
}
