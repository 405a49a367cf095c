// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

// programs are the gadgets that are loaded. All who want the same of the kernel share
// one; what tells them apart, as their selectors and filters, each does for itself.
type programs struct {
	agent *Agent
	// open loads what a plan asks for.
	open func(ctx context.Context, p *plan) (source, kernel.Source, error)
	// ctx ends with the agent, running counts the programs' goroutines.
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex // of what follows, and of what each program says it is for
	// shared can be joined, by what is equal in all of its members.
	shared map[string]*program
	// alone counts the programs that nobody else could join.
	alone int
}

func newPrograms(a *Agent) *programs {
	s := &programs{agent: a, open: a.open, shared: map[string]*program{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// shutdown ends all members, as if they had left, and waits until nothing is loaded.
func (s *programs) shutdown() {
	s.stop()
	s.running.Wait()
}

// open loads and attaches a plan's gadget.
func (a *Agent) open(ctx context.Context, p *plan) (source, kernel.Source, error) {
	types, err := a.kernelTypes(ctx, p.object)
	if err != nil {
		return nil, types.Source, err
	}
	opts := p.opts
	opts.KernelTypes, opts.Cache = types.Spec, a.types.get()
	t, err := tracer.Open(p.object, opts)
	if err != nil {
		return nil, types.Source, err
	}
	return t, types.Source, nil
}

// join makes a member of the program that the plan asks for, which is loaded if nobody
// has it. From when it returns the member gets all that it may see, of a table from the
// next interval on. Who joins has to leave.
func (s *programs) join(ctx context.Context, p *plan) (*member, error) {
	m := s.enter(p)
	select {
	case <-m.in:
	case <-ctx.Done():
		m.leave()
		return nil, ctx.Err()
	}
	if m.stranded {
		return nil, m.failure
	}
	return m, nil
}

// enter asks for a place in the program that the plan asks for.
func (s *programs) enter(plan *plan) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := plan.key()
	if plan.alone() {
		s.alone++
		key = fmt.Sprint(key, " alone ", s.alone)
	}
	p := s.shared[key]
	if p == nil {
		p = newProgram(s, key, plan)
		s.shared[key] = p
		s.running.Go(p.run)
	}
	m := newMember(p, plan, s.agent.opts.QueueSize)
	p.wanted++
	p.ask(m)
	return m
}

// close takes a program from those that can be joined, and returns who has asked it for
// something.
func (s *programs) close(p *program) []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared[p.key] == p {
		delete(s.shared, p.key)
	}
	asked := p.asked
	p.asked = nil
	return asked
}

// key is what has to be equal for two plans to share a program.
func (p *plan) key() string {
	var b strings.Builder
	o := &p.opts
	fmt.Fprintf(&b, "%s buffer=%d perf=%t cgroups=%d filter=%t", p.object.Spec.Name, o.BufferSize, o.PerfBuffer, o.Cgroups, o.FilterContainers)
	if p.object.Spec.Source.Kind != gadget.Events {
		fmt.Fprintf(&b, " interval=%v", p.interval())
	}
	for _, all := range []map[string]string{o.Params, o.Alternatives} {
		b.WriteString(" with")
		for _, name := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintf(&b, " %q=%q", name, all[name])
		}
	}
	return b.String()
}

// alone says whether nobody could join: a snapshot that is made once is over at once.
func (p *plan) alone() bool {
	return p.object.Spec.Source.Kind == gadget.Snapshot && p.opts.Interval == 0
}

// programID is a short name for what is behind a key.
func programID(name, key string) string {
	sum := fnv.New32a()
	sum.Write([]byte(key))
	return fmt.Sprintf("%s-%08x", name, sum.Sum32())
}
