// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

// join adds a member to a party whose queue has a size.
func (t *party) join(size int, buckets ...*bucket) *member {
	m := &member{queue: newQueue(size, nil, t.intake.queue.interval), stage: taking, party: t}
	m.queue.buckets = buckets
	t.add(m)
	var outlets []*queue
	for _, m := range t.members {
		outlets = append(outlets, m.queue)
	}
	t.direct(outlets...)
	return m
}

// came are the batches that wait in a member's queue.
func came(m *member) (batches []*parcel) {
	for len(m.queue.batches) > 0 {
		batches = append(batches, <-m.queue.batches)
	}
	return batches
}

// TestPartyGetsTheSameBytes, each member under its own numbers, and each is told who is who.
func TestPartyGetsTheSameBytes(t *testing.T) {
	n := &news{}
	n.tell(1, shopPod(1))
	shop := newShopParty(t, n, false)
	a := shop.join(DefaultQueueSize)
	shop.intake.record(made(1, 0))
	shop.intake.flush()
	b := shop.join(DefaultQueueSize, newBucket(2, 2, time.Now()))
	for i := range uint64(5) {
		shop.intake.record(made(1, i+1))
	}
	shop.intake.flush()

	ofA, ofB := came(a), came(b)
	require.Len(t, ofA, 2)
	require.Len(t, ofB, 1)
	require.Equal(t, []int{0}, recordNumbers(ofA[0]))
	require.Equal(t, []int{1, 2, 3, 4, 5}, recordNumbers(ofA[1]))
	require.EqualValues(t, 1, ofA[1].Sequence)
	require.Equal(t, []int{1, 2}, recordNumbers(ofB[0]), "the others are more than it may have")
	require.EqualValues(t, 0, ofB[0].Sequence)
	require.EqualValues(t, 3, b.queue.throttled.Load())
	require.EqualValues(t, 2, b.records())
	require.EqualValues(t, 6, a.records())
	require.Same(t, &ofA[1].Records[0], &ofB[0].Records[0])
	require.Equal(t, []*container.Container{shopPod(1)}, ofB[0].containers)
	for _, p := range ofB {
		b.queue.recycle(p)
	}
	require.Zero(t, b.queue.waiting.Load())
	require.Empty(t, b.queue.spare, "bytes that others read are not written again")
}

// TestPartyLosesNothingForOneThatIsSlow, and explains again what that one has missed.
func TestPartyLosesNothingForOneThatIsSlow(t *testing.T) {
	n := &news{}
	n.tell(1, shopPod(1))
	n.tell(2, shopPod(2))
	shop := newShopParty(t, n, false)
	fast, slow := shop.join(DefaultQueueSize), shop.join(512)
	record := func(cgroup uint64) {
		shop.intake.record(made(cgroup, cgroup))
		shop.intake.flush()
	}
	record(1)
	record(2)
	require.Len(t, came(fast), 2)
	require.EqualValues(t, 1, slow.queue.lost.Load())
	require.Zero(t, fast.queue.lost.Load())
	for _, p := range came(slow) {
		slow.queue.recycle(p)
	}
	record(2)
	got := came(slow)
	require.Len(t, got, 1)
	require.Equal(t, []*container.Container{shopPod(2)}, got[0].containers)
	require.EqualValues(t, 2, got[0].Sequence, "what was lost has numbers")
}

// TestSlowOneOfAPartyLearnsOfEveryInterval, also of those whose rows it has lost.
func TestSlowOneOfAPartyLearnsOfEveryInterval(t *testing.T) {
	n := &news{}
	n.tell(1, shopPod(1))
	shop := newShopParty(t, n, true)
	fast, slow := shop.join(DefaultQueueSize), shop.join(DefaultQueueSize)
	slow.queue.limit = 1
	slow.queue.waiting.Store(1)
	shop.intake.record(made(1, 9))
	shop.intake.flush()
	require.Equal(t, []int{9}, recordNumbers(came(fast)[0]))
	got := came(slow)
	require.Len(t, got, 1)
	require.True(t, got[0].IntervalEnd)
	require.Zero(t, got[0].Count)
	require.EqualValues(t, 1, slow.queue.lost.Load())
}

// TestLeavingAPartyTakesWhatWaits for its container along, and doesn't hurry the others.
func TestLeavingAPartyTakesWhatWaits(t *testing.T) {
	s, _ := newShared(t)
	n := &news{}
	f := newFakeSource()
	shop := newShopParty(t, n, false)
	goes, stays := shop.join(DefaultQueueSize), shop.join(DefaultQueueSize)
	p := &program{
		programs: s, plan: planOf("trace_x", gadget.Events), kind: gadget.Events, source: f,
		members: []*member{goes, stays}, parties: []*party{shop},
	}
	for _, m := range p.members {
		m.program, m.plan = p, p.plan
		m.begin(tracer.Loss{})
	}
	p.route()
	p.record(made(1, 1))
	p.flush()
	p.farewell(goes)
	f.drains++
	p.flush()
	require.Equal(t, lingering, goes.stage, "a record waits")
	require.Empty(t, came(stays))
	n.tell(1, shopPod(1))
	p.flush()
	require.Equal(t, over, goes.stage)
	require.Equal(t, []int{1}, numbers(t, goes))
	require.Equal(t, []int{1}, recordNumbers(came(stays)[0]))
	require.Equal(t, []*queue{stays.queue}, shop.outlets)
	loss, err := goes.loss()
	require.NoError(t, err)
	require.Empty(t, loss.String())

	// What nobody ever explains isn't waited for longer than it may wait.
	late := shop.join(DefaultQueueSize)
	late.program, late.plan = p, p.plan
	late.begin(tracer.Loss{})
	p.members = append(p.members, late)
	p.route()
	p.record(made(2, 2))
	p.farewell(late)
	f.drains++
	p.flush()
	require.Equal(t, lingering, late.stage)
	require.WithinDuration(t, time.Now().Add(hold), late.due, time.Second)
	late.due = time.Now().Add(-time.Second)
	p.flush()
	require.Equal(t, over, late.stage)
	require.True(t, shop.intake.waiting(), "the others' records wait on")
}
