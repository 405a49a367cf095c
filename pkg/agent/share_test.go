// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

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
