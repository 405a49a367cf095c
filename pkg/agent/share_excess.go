// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"time"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/tracer"
)

// excessInterval is how often at most a member is told of one that makes too many records.
const excessInterval = 10 * time.Second

// excess is what one container, or one cgroup, made too much of, as far as one member
// would have got it.
type excess struct {
	tracer.Excess
	told   tracer.Excess
	toldAt time.Time
}

// grown is what came between two counts.
func grown(now, before tracer.Excess) tracer.Excess {
	return tracer.Excess{Crowded: now.Crowded - before.Crowded, OverBudget: now.OverBudget - before.OverBudget}
}

// weigh finds out which cgroups have made too many records, and charges what the kernel
// has left out to those who would have got it, and to nobody else.
func (p *program) weigh(now time.Time) {
	p.weighed = now
	err := p.source.Excesses(func(cgroupID uint64, e tracer.Excess) {
		more := grown(e, p.excesses[cgroupID])
		if more == (tracer.Excess{}) {
			return
		}
		p.excesses[cgroupID] = e
		p.crowded.Add(more.Crowded)
		for _, t := range p.parties {
			maker, visible := t.intake.maker(cgroupID)
			for _, m := range t.members {
				if visible && m.stage >= taking {
					m.charge(maker, more)
				}
			}
		}
	})
	if err != nil {
		// What can't be read now is there the next time.
		p.programs.agent.opts.Log.Debug("excess records can't be told now", "gadget", p.plan.object.Spec.Name, "error", err)
	}
}

// maker says whether records of a cgroup may be seen, and in words who makes them.
func (i *intake) maker(cgroupID uint64) (words string, visible bool) {
	if i.enricher == nil {
		return fmt.Sprintf("cgroup %d", cgroupID), true
	}
	c, visible := i.enricher.Maker(cgroupID)
	switch {
	case c == nil:
		return fmt.Sprintf("cgroup %d, which is in no known container,", cgroupID), visible
	case c.Pod.Name != "":
		return fmt.Sprintf("container %s of pod %s/%s", containerName(c), c.Pod.Namespace, c.Pod.Name), visible
	}
	return "container " + containerName(c), visible
}

// containerName is the best name there is.
func containerName(c *container.Container) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// charge notes what a member has not got because maker made too much.
func (m *member) charge(maker string, more tracer.Excess) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.excesses == nil {
		m.excesses = map[string]*excess{}
	}
	if m.excesses[maker] == nil {
		m.excesses[maker] = &excess{}
	}
	m.excesses[maker].Crowded += more.Crowded
	m.excesses[maker].OverBudget += more.OverBudget
}

// excess is all that a member has not got for that reason. mu is held.
func (m *member) excess() (sum tracer.Excess) {
	for _, e := range m.excesses {
		sum.Crowded += e.Crowded
		sum.OverBudget += e.OverBudget
	}
	return sum
}

// tellExcess says who made too much since that was last told, which is soon enough for each
// of them after excessInterval, or at the end.
func (m *member) tellExcess(now time.Time, end bool, tell func(text string) error) error {
	m.mu.Lock()
	var texts []string
	for maker, e := range m.excesses {
		more := grown(e.Excess, e.told)
		if more == (tracer.Excess{}) || !end && now.Sub(e.toldAt) < excessInterval {
			continue
		}
		e.told, e.toldAt = e.Excess, now
		texts = append(texts, excessTexts(maker, more, m.plan.opts.Budget)...)
	}
	m.mu.Unlock()
	for _, text := range texts {
		if err := tell(text); err != nil {
			return err
		}
	}
	return nil
}

func excessTexts(maker string, more tracer.Excess, budget uint32) []string {
	var texts []string
	if more.OverBudget > 0 {
		texts = append(texts, fmt.Sprintf("%s is throttled: it makes more than %d records a second, of which %d were left out (--cgroup-budget of the agent)",
			maker, budget, more.OverBudget))
	}
	if more.Crowded > 0 {
		texts = append(texts, fmt.Sprintf("%s makes records faster than they are read: %d were left out so that others' are not lost; a filter or a larger buffer helps",
			maker, more.Crowded))
	}
	return texts
}
