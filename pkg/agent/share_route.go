// SPDX-License-Identifier: Apache-2.0

package agent

// route finds out who gets records, and how to hand them one.
func (p *program) route() {
	p.takers = nil
	for _, m := range p.members {
		if m.stage == taking || m.stage == leaving {
			p.takers = append(p.takers, m)
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
	for _, m := range p.takers {
		// News may change who may.
		if m.intake.changes.Dirty() {
			m.intake.enricher.Flush()
		}
	}
	for _, m := range p.union.audience(p.plan.maker.CgroupID(record)) {
		m.intake.enricher.Record(record)
	}
}

// takeCopied hands a record to all. Each may blank what it mustn't see of it.
func (p *program) takeCopied(record []byte) {
	last := len(p.takers) - 1
	for _, m := range p.takers[:last] {
		p.copied = append(p.copied[:0], record...)
		m.intake.record(p.copied)
	}
	p.takers[last].intake.record(record)
}

// takeEqual hands a record to all.
func (p *program) takeEqual(record []byte) {
	for _, m := range p.takers {
		m.intake.record(record)
	}
}
