// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/labels"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

// Limits of a selector.
const (
	maxSelected     = 1024
	maxSelectorText = 4096
)

// selectionOf reads a selector; without one the whole machine is selected.
func selectionOf(selector *wire.Selector) (enrich.Selection, error) {
	if selector == nil {
		return enrich.Selection{Machine: true}, nil
	}
	selection := enrich.Selection{
		Namespaces: selector.GetNamespaces(), Pods: selector.GetPods(), Containers: selector.GetContainers(), Host: selector.GetHost(),
	}
	if n := len(selection.Namespaces) + len(selection.Pods) + len(selection.Containers); n > maxSelected {
		return selection, fmt.Errorf("%d names in the selector, at most %d are taken", n, maxSelected)
	}
	text := selector.GetLabels()
	if text == "" {
		return selection, nil
	}
	if len(text) > maxSelectorText {
		return selection, fmt.Errorf("label selector of %d bytes, at most %d are taken", len(text), maxSelectorText)
	}
	wanted, err := labels.Parse(text)
	if err != nil {
		return selection, fmt.Errorf("label selector: %w", err)
	}
	selection.Labels = func(pod map[string]string) bool { return wanted.Matches(labels.Set(pod)) }
	return selection, nil
}

var errNoContainers = errors.New("this agent doesn't know which containers there are, so that it can only trace the whole machine: start it with --containers")

// planSelection decides how the run sees no more than it may.
func (a *Agent) planSelection(p *plan, selector *wire.Selector) error {
	var err error
	if p.selection, err = selectionOf(selector); err != nil {
		return usageError{err}
	}
	p.maker, p.target = identities(p.object.Spec.Source)
	if a.opts.Containers == nil {
		switch {
		case p.selection.Machine:
			return nil
		case a.blind != nil:
			return unsupportedError{fmt.Errorf("containers aren't known on this node, so that only the whole machine can be traced: %s", brief(a.blind))}
		}
		return unsupportedError{errNoContainers}
	}
	p.opts.Cgroups = hierarchies[a.opts.Containers.Hierarchy()]
	if p.selection.Machine {
		return nil
	}
	if p.maker == nil {
		return usageError{fmt.Errorf("records of gadget %s don't say whose they are: it can only trace the whole machine", p.object.Spec.Name)}
	}
	// A record about two processes may be shown for the sake of the second.
	p.opts.FilterContainers = p.target == nil
	return nil
}

var hierarchies = map[container.Hierarchy]tracer.Cgroups{
	container.V2: tracer.CgroupV2, container.V1Pids: tracer.CgroupV1Pids, container.V1Memory: tracer.CgroupV1Memory,
}

// openIntake makes the way from the tracer to the queue.
func (a *Agent) openIntake(p *plan, q *queue, v *view) (*intake, error) {
	if a.opts.Containers == nil || p.maker == nil {
		return newIntake(q, nil)
	}
	changes := a.opts.Containers.Subscribe()
	opts := &enrich.Options{Containers: changes, Selection: p.selection, Process: *p.maker, Target: p.target}
	if v != nil {
		opts.SetVerdict = v.say
	}
	in, err := newIntake(q, opts)
	if err != nil {
		changes.Close()
		return nil, err
	}
	in.close = changes.Close
	return in, nil
}

// setVerdict tells the program's filter in the kernel. If that has no more room, records
// are left out later, at a higher price.
func (p *program) setVerdict() func(uint64, enrich.Verdict) error {
	var once sync.Once
	return func(cgroup uint64, v enrich.Verdict) error {
		err := p.source.SetContainer(cgroup, verdicts[v])
		if err != nil {
			once.Do(func() {
				p.programs.agent.opts.Log.Warn("the kernel's filter can't be told of all cgroups", "gadget", p.plan.object.Spec.Name, "error", err)
			})
		}
		return err
	}
}

var verdicts = map[enrich.Verdict]tracer.Verdict{
	enrich.Unknown: tracer.VerdictUnknown, enrich.In: tracer.VerdictIn, enrich.Out: tracer.VerdictOut,
}
