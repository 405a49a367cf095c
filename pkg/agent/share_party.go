// SPDX-License-Identifier: Apache-2.0

package agent

import "slices"

// party is one or more members of a program that select and filter alike. What one of them
// gets all of them get, so that it is found out, and put into batches, once.
type party struct {
	intake *intake
	view   *view
	// members are all that have not gone, outlets the queues of those that get records.
	members []*member
	outlets []*queue
	// shared makes the batches when there are several outlets.
	shared *queue
}

// partyOf finds the party of those who want the same as m, or makes one. Records that wait
// for their container were made before m came.
func (p *program) partyOf(m *member) (*party, error) {
	for _, one := range p.parties {
		if one.members[0].plan.wants == m.plan.wants && !one.intake.waiting() {
			return one, nil
		}
	}
	one := &party{}
	if p.union != nil {
		one.view = p.union.join()
	}
	var err error
	if one.intake, err = p.programs.agent.openIntake(m.plan, m.queue, one.view); err != nil {
		p.union.leave(one.view)
		return nil, err
	}
	p.union.refresh()
	p.parties = append(p.parties, one)
	return one, nil
}

// add adds a member, to which the containers have not been explained.
func (t *party) add(m *member) {
	t.members = append(t.members, m)
	if t.intake.enricher != nil {
		m.queue.unexplained = t.intake.enricher.Again
		t.intake.enricher.Again()
	}
}

// remove takes a member from its party, and the party from the program with the last.
func (p *program) remove(m *member) {
	t := m.party
	t.members = slices.DeleteFunc(t.members, func(other *member) bool { return other == m })
	if len(t.members) > 0 {
		return
	}
	p.parties = slices.DeleteFunc(slices.Clone(p.parties), func(other *party) bool { return other == t })
	p.union.leave(t.view)
	t.intake.close()
}

// direct says whose queues get what is recorded from now on. What has been has been flushed.
func (t *party) direct(outlets ...*queue) {
	t.outlets = outlets
	switch len(outlets) {
	case 0:
	case 1:
		t.intake.queue = outlets[0]
	default:
		if t.shared == nil {
			t.shared = newQueue(0, outlets[0].filter, outlets[0].interval)
		}
		t.shared.outlets, t.intake.queue = outlets, t.shared
	}
}

// active says whether a member of the party takes what is recorded now.
func (t *party) active() bool {
	return slices.ContainsFunc(t.members, func(m *member) bool { return m.stage == taking || m.stage == leaving })
}

// route finds out who gets records, and how to hand them one.
func (p *program) route() {
	p.takers = nil
	for _, t := range p.parties {
		var outlets []*queue
		for _, m := range t.members {
			if m.stage >= taking {
				outlets = append(outlets, m.queue)
			}
		}
		t.direct(outlets...)
		if t.active() {
			p.takers = append(p.takers, t)
		}
	}
	p.union.listen(p.takers)
	switch {
	case len(p.takers) == 0:
		p.take = func([]byte) {}
	case len(p.takers) == 1:
		p.take = p.takers[0].intake.taker()
	case p.union != nil:
		p.take = p.takeSelected
	case p.plan.target != nil:
		p.take = p.takeCopied
	default:
		p.take = p.takeEqual
	}
}

// takeSelected hands a record to those who haven't said that they mustn't see it, at the
// price of one look for all of them.
func (p *program) takeSelected(record []byte) {
	for _, t := range p.takers {
		// News may change who may.
		if t.intake.changes.Dirty() {
			t.intake.enricher.Flush()
		}
	}
	for _, t := range p.union.audience(p.plan.maker.CgroupID(record)) {
		t.intake.enricher.Record(record)
	}
}

// takeCopied hands a record to all. Each may blank what it mustn't see of it.
func (p *program) takeCopied(record []byte) {
	last := len(p.takers) - 1
	for _, t := range p.takers[:last] {
		p.copied = append(p.copied[:0], record...)
		t.intake.record(p.copied)
	}
	p.takers[last].intake.record(record)
}

// takeEqual hands a record to all.
func (p *program) takeEqual(record []byte) {
	for _, t := range p.takers {
		t.intake.record(record)
	}
}
