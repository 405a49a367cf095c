// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

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
