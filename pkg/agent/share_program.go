// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

// source is a gadget that is loaded and attached: a *tracer.Tracer.
type source interface {
	Run(ctx context.Context, h tracer.Handler) error
	Choices() []tracer.Choice
	Lost() (tracer.Loss, error)
	Excesses(each func(cgroupID uint64, excess tracer.Excess)) error
	SetContainer(cgroupID uint64, verdict tracer.Verdict) error
	Mark() tracer.Mark
	Passed(mark tracer.Mark) bool
	Peek(each func([]byte)) error
	Close()
}

// errOver says that a program ended while somebody waited to join it.
var errOver = errors.New("the gadget has just ended")

// program is a gadget that is loaded for one or more members. One goroutine, run, loads
// it, hands its records to the members, lets members in and out between records, and
// unloads it when nobody wants it any more.
type program struct {
	programs *programs
	key, id  string
	// plan is that of the first member. What it asks of the kernel all of them ask.
	plan *plan
	kind gadget.SourceKind
	// ctx ends when nobody wants the program any more.
	ctx  context.Context
	stop context.CancelFunc
	// source and types are there before a member is in.
	source source
	types  kernel.Source
	// news says that somebody has asked for something; wake that it should be seen to
	// before the interval ends.
	news atomic.Bool
	wake chan struct{}
	// pause is how long the tracer waits on purpose before it looks again, and looked when
	// it did last; 0 when it doesn't any more.
	pause  time.Duration
	looked atomic.Int64
	// crowded counts what the kernel left out in favour of others' records.
	crowded atomic.Uint64

	// wanted counts the members who have not left, asked are those who have come or left
	// since somebody looked. programs.mu guards both.
	wanted int
	asked  []*member

	// What follows is the goroutine's.
	members []*member
	parties []*party
	// takers are the parties that get records, take hands them one.
	takers []*party
	take   func(record []byte)
	union  *union
	copied []byte
	// excesses are what cgroups had made too much of when they were weighed.
	excesses map[uint64]tracer.Excess
	weighed  time.Time
}

func newProgram(s *programs, key string, plan *plan) *program {
	p := &program{
		programs: s, key: key, id: programID(plan.object.Spec.Name, key), plan: plan,
		kind: plan.object.Spec.Source.Kind, wake: make(chan struct{}, 1), take: func([]byte) {},
		excesses: map[uint64]tracer.Excess{},
	}
	if p.kind != gadget.Events {
		p.pause = max(plan.interval(), tracer.DefaultInterval)
	}
	// It lives as long as its members want it, which may be longer than the first of them.
	p.ctx, p.stop = context.WithCancel(s.ctx)
	return p
}

// ask tells the goroutine that a member has come or left. programs.mu is held.
func (p *program) ask(m *member) {
	p.asked = append(p.asked, m)
	p.news.Store(true)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// release lets a member go, and with the last one the program.
func (p *program) release(m *member) {
	p.programs.mu.Lock()
	defer p.programs.mu.Unlock()
	if m.left {
		return
	}
	m.left = true
	if p.wanted--; p.wanted > 0 {
		p.ask(m)
		return
	}
	// Who comes now gets another one.
	if p.programs.shared[p.key] == p {
		delete(p.programs.shared, p.key)
	}
	p.stop()
}

// run is the program's goroutine.
func (p *program) run() {
	defer p.stop()
	var err error
	if p.source, p.types, err = p.programs.open(p.ctx, p.plan); err != nil {
		p.end(err)
		return
	}
	p.programs.agent.ledger.load(p)
	if p.plan.opts.FilterContainers {
		p.union = newUnion(p.setVerdict())
	}
	p.looked.Store(time.Now().UnixNano())
	p.attend(true)
	err = p.source.Run(p.ctx, tracer.Handler{Record: p.record, Flush: p.flush, Wake: p.wake, Woken: p.woken})
	p.looked.Store(0)
	p.end(err)
}

// record hands out a record.
func (p *program) record(record []byte) { p.take(record) }

// flush is called when the tracer has read all there is, or at the end of an interval.
func (p *program) flush() {
	now := time.Now()
	p.looked.Store(now.UnixNano())
	if p.kind == gadget.Events {
		p.flushEvents(now)
	} else {
		p.flushInterval()
	}
	for _, m := range p.members {
		m.queue.refill(now)
	}
	if now.Sub(p.weighed) >= lossInterval {
		p.weigh(now)
	}
}

func (p *program) flushEvents(now time.Time) {
	for _, t := range p.parties {
		t.intake.flush()
	}
	for _, m := range p.members {
		if m.stage > taking {
			p.see(m, now)
		}
	}
	if p.news.Load() {
		p.attend(false)
	}
}

// see brings a member that leaves closer to its end.
func (p *program) see(m *member, now time.Time) {
	if m.stage == leaving && p.source.Passed(m.mark) {
		m.stage, m.due = lingering, now.Add(lastHold)
		if m.party.active() {
			// Its records wait among others', and no longer than these do.
			m.due = now.Add(hold)
		}
		p.route()
	}
	if m.stage == lingering && (!m.party.intake.waiting() || now.After(m.due)) {
		if !m.party.active() {
			m.party.intake.release()
		}
		p.dismiss(m, nil)
	}
}

// flushInterval ends an interval, with which some may begin.
func (p *program) flushInterval() {
	settle(intervalHold, p.takers...)
	begun := false
	for _, m := range p.members {
		if m.stage == waiting {
			p.begin(m)
			begun = true
		}
	}
	if begun {
		p.route()
	}
}

// woken is called while an interval lasts.
func (p *program) woken() { p.attend(false) }

// attend sees to those who have come or left. The first come before there are records.
func (p *program) attend(first bool) {
	requests := p.requests()
	if len(requests) > 0 && !first {
		// What was left out until now is not the newcomers'.
		p.weigh(time.Now())
	}
	for _, r := range requests {
		switch m := r.member; {
		case r.left && m.stage == outside:
			m.close(nil)
		case r.left:
			p.farewell(m)
		case m.stage == outside:
			p.admit(m, first)
		}
	}
	p.route()
}

// request is what a member has asked for.
type request struct {
	member *member
	left   bool
}

func (p *program) requests() []request {
	p.programs.mu.Lock()
	defer p.programs.mu.Unlock()
	var all []request
	for _, m := range p.asked {
		all = append(all, request{m, m.left})
	}
	p.asked = nil
	p.news.Store(false)
	return all
}

// admit lets a member in.
func (p *program) admit(m *member, first bool) {
	var err error
	if m.party, err = p.partyOf(m); err != nil {
		m.close(err)
		return
	}
	m.party.add(m)
	p.members = append(p.members, m)
	switch {
	case first:
		// All that was recorded or lost since the program was attached is theirs.
		m.stage = taking
		m.begin(tracer.Loss{})
	case p.kind == gadget.Table:
		// Rows of an interval that is under way can't be told apart by when they were made.
		m.stage = waiting
	default:
		p.begin(m)
	}
	p.programs.agent.ledger.begin(m)
	close(m.in)
}

// begin makes a member take records.
func (p *program) begin(m *member) {
	m.stage = taking
	// What can't be read now can't be read later; who asks for it is told.
	lost, _ := p.source.Lost()
	m.begin(lost)
}

// farewell lets a member go that others stay behind.
func (p *program) farewell(m *member) {
	switch {
	case m.stage > taking:
	case p.kind == gadget.Events:
		m.stage, m.mark = leaving, p.source.Mark()
	case p.kind == gadget.Table && m.stage == taking:
		// It gets the rows of the interval so far, which go on growing for the others.
		m.party.direct(m.queue)
		err := p.source.Peek(m.party.intake.taker())
		settle(intervalHold, m.party)
		p.dismiss(m, err)
	default:
		p.dismiss(m, nil)
	}
}

// dismiss ends a member.
func (p *program) dismiss(m *member, err error) {
	p.weigh(time.Now())
	p.part(m)
	m.close(err)
	p.members = slices.DeleteFunc(slices.Clone(p.members), func(other *member) bool { return other == m })
	p.route()
}

// part takes a member's share of what the program holds from it.
func (p *program) part(m *member) {
	m.freeze()
	p.programs.agent.ledger.end(m)
	p.remove(m)
}

// end ends all members, and unloads the program.
func (p *program) end(err error) {
	asked := p.programs.close(p)
	if p.kind == gadget.Events {
		settle(lastHold, p.parties...)
	}
	if p.source != nil {
		p.weigh(time.Now())
	}
	for _, m := range p.members {
		p.part(m)
	}
	if p.source != nil {
		p.programs.agent.ledger.unload(p)
		p.source.Close()
	}
	for _, m := range p.members {
		m.close(err)
	}
	if err == nil {
		err = errOver
	}
	for _, m := range asked {
		if m.stage == outside {
			m.close(err)
		}
	}
}

// silent is how long ago the tracer should have looked for records, and has not.
func (p *program) silent(now time.Time) time.Duration {
	looked := p.looked.Load()
	if looked == 0 {
		return 0
	}
	return max(now.Sub(time.Unix(0, looked))-p.pause, 0)
}
