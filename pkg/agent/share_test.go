// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

func planOf(name string, kind gadget.SourceKind) *plan {
	return &plan{object: &gadget.Object{Spec: gadget.Spec{Name: name, Source: gadget.Source{Kind: kind}}}}
}

// fakeSource is a gadget that records what the test says. It is driven by the test: Run
// does one thing after the other.
type fakeSource struct {
	steps  chan func(h tracer.Handler)
	err    error
	lost   atomic.Uint64
	drains int
	closed chan struct{}
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

func TestMembersShareOneProgram(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	plan := planOf("trace_x", gadget.Events)
	a := mustJoin(t, s, plan, nil)
	f := l.source(0)
	f.record(1)
	f.lost.Add(10)
	b := mustJoin(t, s, plan, f)
	require.Equal(t, a.programID(), b.programID())
	require.Regexp(t, `^trace_x-[0-9a-f]{8}$`, a.programID())
	f.record(2)
	f.lost.Add(1)

	a.leave()
	a.leave()
	f.record(3) // Before the buffer was drained for the first time: may still be what it had recorded.
	f.flush()
	f.record(4)
	f.flush()
	f.record(5)
	require.Equal(t, []int{1, 2, 3, 4}, numbers(t, a))
	f.last = func(h tracer.Handler) { h.Record(made(1, 6)) }
	b.leave()
	require.Equal(t, []int{2, 3, 4, 5, 6}, numbers(t, b))
	<-f.closed
	require.NoError(t, errors.Join(a.failure, b.failure))

	loss, err := a.loss()
	require.NoError(t, err)
	require.EqualValues(t, 11, loss.GetKernel())
	require.EqualValues(t, 22, loss.GetSkipped())
	loss, err = b.loss()
	require.NoError(t, err)
	require.EqualValues(t, 1, loss.GetKernel(), "what was lost before it joined is not its own")
	require.EqualValues(t, 4, a.records())
	require.EqualValues(t, 5, b.records())
	account := s.agent.ledger.accounts()["trace_x"]
	require.EqualValues(t, 11, account.Kernel, "a program's losses are counted once")
	require.EqualValues(t, 9, account.records)
	require.EqualValues(t, 2, account.runs)
	require.Equal(t, 1, l.count())
	require.Zero(t, s.agent.ledger.programs())
}

// TestPlansThatDifferInTheKernelDontShare, and those that differ elsewhere do.
func TestPlansThatDifferInTheKernelDontShare(t *testing.T) {
	base := func() *plan {
		p := planOf("trace_x", gadget.Events)
		p.opts = tracer.Options{Params: map[string]string{"a": "1", "b": "2"}, BufferSize: 4096}
		return p
	}
	table := func(interval time.Duration) *plan {
		p := planOf("top_x", gadget.Table)
		p.opts.Interval = interval
		return p
	}
	for _, test := range []struct {
		name   string
		a, b   *plan
		change func(p *plan)
		equal  bool
	}{
		{"nothing", base(), base(), func(*plan) {}, true},
		{"gadget", base(), planOf("trace_y", gadget.Events), func(*plan) {}, false},
		{"parameter", base(), base(), func(p *plan) { p.opts.Params["a"] = "2" }, false},
		{"parameter more", base(), base(), func(p *plan) { p.opts.Params["c"] = "2" }, false},
		{"parameter as alternative", base(), base(), func(p *plan) {
			p.opts.Params, p.opts.Alternatives = p.opts.Alternatives, p.opts.Params
		}, false},
		{"alternative", base(), base(), func(p *plan) { p.opts.Alternatives = map[string]string{"exit": "kprobe"} }, false},
		{"buffer size", base(), base(), func(p *plan) { p.opts.BufferSize = 8192 }, false},
		{"perf buffer", base(), base(), func(p *plan) { p.opts.PerfBuffer = true }, false},
		{"hierarchy", base(), base(), func(p *plan) { p.opts.Cgroups = tracer.CgroupV1Pids }, false},
		{"container filter", base(), base(), func(p *plan) { p.opts.FilterContainers = true }, false},
		{"interval of events", base(), base(), func(p *plan) { p.opts.Interval = time.Minute }, true},
		{"selection", base(), base(), func(p *plan) { p.selection.Namespaces = []string{"shop"} }, true},
		{"queue", base(), base(), func(p *plan) { p.queueSize = 1 }, true},
		{"interval", table(time.Second), table(time.Minute), func(*plan) {}, false},
		{"default interval", table(0), table(tracer.DefaultInterval), func(*plan) {}, true},
	} {
		test.change(test.b)
		require.Equal(t, test.equal, test.a.key() == test.b.key(), "%s: %s and %s", test.name, test.a.key(), test.b.key())
	}
}

func TestSnapshotThatIsMadeOnceIsNotShared(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	l.gate <- nil
	plan := planOf("snapshot_x", gadget.Snapshot)
	a, b := mustJoin(t, s, plan, nil), mustJoin(t, s, plan, nil)
	require.NotEqual(t, a.programID(), b.programID())
	for i, m := range []*member{a, b} {
		f := l.source(i)
		f.do(func(h tracer.Handler) {
			h.Record(made(1, 7))
			h.Flush()
		})
		f.steps <- nil
		require.Equal(t, []int{7, -1}, numbers(t, m))
		<-f.closed
		m.leave()
	}
}

// TestJoinersWaitForTheFirst while it loads, and load nothing themselves.
func TestJoinersWaitForTheFirst(t *testing.T) {
	s, l := newShared(t)
	plan := planOf("trace_x", gadget.Events)
	type result struct {
		m   *member
		err error
	}
	results := make(chan result)
	join := func(ctx context.Context) {
		m, err := s.join(ctx, plan)
		results <- result{m, err}
	}
	first, leaveFirst := context.WithCancel(t.Context())
	go join(first)
	for range 2 {
		go join(t.Context())
	}
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		p := s.shared[plan.key()]
		return p != nil && p.wanted == 3
	}, 5*time.Second, time.Millisecond)
	// Who loses patience doesn't take the program from the others.
	leaveFirst()
	require.ErrorIs(t, (<-results).err, context.Canceled)
	l.gate <- nil
	for range 2 {
		r := <-results
		require.NoError(t, r.err)
		defer r.m.leave()
	}
	require.Equal(t, 1, l.count())
}

// TestLoadingEndsWhenNobodyWaits for it.
func TestLoadingEndsWhenNobodyWaits(t *testing.T) {
	s, _ := newShared(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := s.join(ctx, planOf("trace_x", gadget.Events))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	s.running.Wait()
	require.Empty(t, s.shared)
}

func TestAllWhoWaitGetTheErrorOfLoading(t *testing.T) {
	s, l := newShared(t)
	plan := planOf("trace_x", gadget.Events)
	failed := make(chan error)
	for range 3 {
		go func() {
			_, err := s.join(t.Context(), plan)
			failed <- err
		}()
	}
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.shared[plan.key()] != nil && s.shared[plan.key()].wanted == 3
	}, 5*time.Second, time.Millisecond)
	broken := errors.New("no memory")
	l.gate <- broken
	for range 3 {
		require.ErrorIs(t, <-failed, broken)
	}
	// The next one tries again.
	l.gate <- nil
	m := mustJoin(t, s, plan, nil)
	m.abandon()
}

func TestAllMembersGetTheErrorOfReading(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	l.gate <- nil
	plan := planOf("trace_x", gadget.Events)
	a := mustJoin(t, s, plan, nil)
	f := l.source(0)
	b := mustJoin(t, s, plan, f)
	f.record(1)
	f.err = errors.New("reading events: bad file descriptor")
	f.steps <- nil
	for _, m := range []*member{a, b} {
		require.Equal(t, []int{1}, numbers(t, m))
		require.ErrorIs(t, m.failure, f.err)
		m.leave()
	}
	again := mustJoin(t, s, plan, nil)
	require.Equal(t, 2, l.count(), "nobody joins a program that has ended")
	again.leave()
}

// TestWhoComesWhenTheLastLeaves gets a program of its own.
func TestWhoComesWhenTheLastLeaves(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	l.gate <- nil
	plan := planOf("trace_x", gadget.Events)
	a := mustJoin(t, s, plan, nil)
	entered, goOn := make(chan struct{}), make(chan struct{})
	l.source(0).last = func(tracer.Handler) {
		close(entered)
		<-goOn
	}
	a.leave()
	<-entered
	b := mustJoin(t, s, plan, nil)
	close(goOn)
	l.source(1).record(1)
	b.leave()
	require.Equal(t, []int{1}, numbers(t, b))
	require.Empty(t, numbers(t, a))
}

// TestMemberThatLeavesUnseen before anybody has looked, leaves no trace.
func TestMemberThatLeavesUnseen(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	plan := planOf("trace_x", gadget.Events)
	a := mustJoin(t, s, plan, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.join(ctx, plan)
	require.ErrorIs(t, err, context.Canceled)
	f := l.source(0)
	f.flush()
	f.record(1)
	a.leave()
	require.Equal(t, []int{1}, numbers(t, a))
	require.EqualValues(t, 1, s.agent.ledger.accounts()["trace_x"].runs)
}

// TestTableMembersGetWholeIntervals at the beginning, and at the end what there is.
func TestTableMembersGetWholeIntervals(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	plan := planOf("top_x", gadget.Table)
	a := mustJoin(t, s, plan, nil)
	f := l.source(0)
	interval := func(n uint64) {
		f.do(func(h tracer.Handler) {
			h.Record(made(1, n))
			h.Flush()
		})
	}
	b, unseen := mustJoin(t, s, plan, f), mustJoin(t, s, plan, f)
	loss, err := b.loss()
	require.NoError(t, err)
	require.Zero(t, loss.GetKernel())
	unseen.leave()
	f.wake()
	require.Empty(t, numbers(t, unseen), "it hasn't been there for a whole interval")
	f.lost.Add(5)
	interval(1)
	f.lost.Add(1)
	interval(2)
	f.table = [][]byte{made(1, 3)}
	b.leave()
	f.wake()
	require.Equal(t, []int{2, -1, 3, -1}, numbers(t, b))
	loss, err = b.loss()
	require.NoError(t, err)
	require.EqualValues(t, 1, loss.GetKernel())
	interval(4)
	f.last = func(h tracer.Handler) { h.Record(made(1, 5)) }
	a.leave()
	require.Equal(t, []int{1, -1, 2, -1, 4, -1, 5, -1}, numbers(t, a))
}

func TestSnapshotMembersGetTheNextOne(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	plan := planOf("snapshot_x", gadget.Snapshot)
	plan.opts.Interval = time.Second
	a := mustJoin(t, s, plan, nil)
	f := l.source(0)
	b := mustJoin(t, s, plan, f)
	f.do(func(h tracer.Handler) {
		h.Record(made(1, 1))
		h.Flush()
	})
	b.leave()
	f.wake()
	require.Equal(t, []int{1, -1}, numbers(t, b))
	a.abandon()
}

// TestMembersWithTargetsGetTheirOwnBytes: what one mustn't see is blanked for it alone.
func TestMembersWithTargetsGetTheirOwnBytes(t *testing.T) {
	maker := enrich.Identity{Cgroup: 0, Parts: []enrich.Part{{Offset: 0, Size: 8}}}
	target := &enrich.Identity{Cgroup: 8, Parts: []enrich.Part{{Offset: 8, Size: 8}}}
	of := func(namespaces ...string) *party {
		n := &news{}
		n.tell(1, shopPod(1))
		n.tell(2, &container.Container{Ref: 2, Pod: container.Pod{Namespace: "bank"}})
		q := newQueue(DefaultQueueSize, nil, false)
		in, err := newIntake(q, &enrich.Options{
			Containers: n, Selection: enrich.Selection{Namespaces: namespaces}, Process: maker, Target: target,
		})
		require.NoError(t, err)
		return &party{intake: in, members: []*member{{queue: q, stage: taking}}}
	}
	p := &program{plan: &plan{target: target}, parties: []*party{of("shop"), of("bank"), of("shop", "bank"), of("other")}}
	p.route()
	p.take(made(1, 2))
	for i, want := range [][]byte{made(1, 0), made(0, 2), made(1, 2), nil} {
		q := p.parties[i].intake.queue
		q.flush()
		q.close()
		var got []byte
		for batch := range q.batches {
			for _, record := range batch.All() {
				got = append(got, record...)
			}
		}
		require.Equal(t, want, got)
	}
}
