// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

func planOf(name string, kind gadget.SourceKind) *plan {
	return &plan{object: &gadget.Object{Spec: gadget.Spec{Name: name, Source: gadget.Source{Kind: kind}}}}
}

// fakeSource is a gadget that records what the test says. It is driven by the test: Run
// does one thing after the other.
type fakeSource struct {
	steps chan func(h tracer.Handler)
	err   error
	lost  atomic.Uint64
	// excesses are what cgroups have made too much of.
	excesses map[uint64]tracer.Excess
	drains   int
	closed   chan struct{}
	// table are the rows that Peek finds.
	table [][]byte
	// last is done when the programs are detached.
	last func(h tracer.Handler)
}

func newFakeSource() *fakeSource {
	return &fakeSource{steps: make(chan func(tracer.Handler)), closed: make(chan struct{}), last: func(tracer.Handler) {}}
}

func (f *fakeSource) Run(ctx context.Context, h tracer.Handler) error {
	for {
		select {
		case step := <-f.steps:
			if step == nil {
				return f.err
			}
			step(h)
		case <-ctx.Done():
			f.last(h)
			h.Flush()
			return nil
		}
	}
}

func (f *fakeSource) Choices() []tracer.Choice { return nil }

func (f *fakeSource) Lost() (tracer.Loss, error) {
	lost := f.lost.Load()
	return tracer.Loss{Records: lost, Skipped: 2 * lost}, nil
}

func (f *fakeSource) Excesses(each func(uint64, tracer.Excess)) error {
	for id, e := range f.excesses {
		each(id, e)
	}
	return nil
}
func (f *fakeSource) SetContainer(uint64, tracer.Verdict) error { return nil }
func (f *fakeSource) Mark() tracer.Mark                         { f.drains = 0; return tracer.Mark{} }
func (f *fakeSource) Passed(tracer.Mark) bool                   { return f.drains > 0 }
func (f *fakeSource) Close()                                    { close(f.closed) }

func (f *fakeSource) Peek(each func([]byte)) error {
	for _, row := range f.table {
		each(row)
	}
	return nil
}

// do makes the source do something, and waits until it has.
func (f *fakeSource) do(step func(h tracer.Handler)) {
	done := make(chan struct{})
	f.steps <- func(h tracer.Handler) {
		defer close(done)
		step(h)
	}
	<-done
}

// record makes records with numbers, and flush drains the buffer.
func (f *fakeSource) record(numbers ...uint64) {
	f.do(func(h tracer.Handler) {
		for _, n := range numbers {
			h.Record(made(1, n))
		}
	})
}

func (f *fakeSource) flush() {
	f.do(func(h tracer.Handler) {
		f.drains++
		h.Flush()
	})
}

func (f *fakeSource) wake() { f.do(func(h tracer.Handler) { h.Woken() }) }

// loader is what stands for the kernel.
type loader struct {
	mu     sync.Mutex
	loaded []*fakeSource
	// gate is read before anything is loaded, and what comes is the result.
	gate chan error
}

func newShared(t *testing.T) (*programs, *loader) {
	t.Helper()
	l := &loader{gate: make(chan error, 100)}
	a := New(Options{Gadgets: catalog(t)})
	a.programs.open = func(ctx context.Context, _ *plan) (source, kernel.Source, error) {
		select {
		case err := <-l.gate:
			if err != nil {
				return nil, kernel.Source{}, err
			}
		case <-ctx.Done():
			return nil, kernel.Source{}, ctx.Err()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		f := newFakeSource()
		l.loaded = append(l.loaded, f)
		return f, kernel.Source{}, nil
	}
	t.Cleanup(a.Close)
	return a.programs, l
}

func (l *loader) source(i int) *fakeSource {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loaded[i]
}

func (l *loader) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.loaded)
}

// mustJoin joins a program, of which the source is flushed meanwhile if there is one.
func mustJoin(t *testing.T, s *programs, p *plan, running *fakeSource) *member {
	t.Helper()
	joined := make(chan *member)
	go func() {
		m, err := s.join(t.Context(), p)
		if err != nil {
			m = nil
		}
		joined <- m
	}()
	for {
		var steps chan func(tracer.Handler)
		if running != nil {
			steps = running.steps
		}
		select {
		case m := <-joined:
			require.NotNil(t, m)
			return m
		case steps <- func(h tracer.Handler) {
			if p.object.Spec.Source.Kind == gadget.Events {
				h.Flush()
			} else {
				h.Woken()
			}
		}:
		}
	}
}

// recordNumbers are those in a batch.
func recordNumbers(p *parcel) (all []int) {
	for _, record := range p.All() {
		all = append(all, int(binary.NativeEndian.Uint64(record[8:])))
	}
	return all
}

// numbers are those of all records in a queue that is or will be closed, with -1 for the
// end of each interval.
func numbers(t *testing.T, m *member) []int {
	t.Helper()
	var all []int
	timeout := time.After(5 * time.Second)
	for {
		select {
		case p, ok := <-m.queue.batches:
			if !ok {
				return all
			}
			all = append(all, recordNumbers(p)...)
			if p.IntervalEnd {
				all = append(all, -1)
			}
		case <-timeout:
			require.Fail(t, "the queue isn't closed")
		}
	}
}
