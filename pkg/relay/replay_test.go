// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// retained is what a fake agent has of the trace session shop/carts.
type retained struct {
	// boot is when the node booted, times are when its records were made, and their numbers.
	boot  uint64
	times []uint64
	// delay is how long it takes to answer.
	delay time.Duration
	// live are the times of what is being recorded.
	live <-chan uint64
}

func (r *retained) play(start *wire.Start, run *agentRun) error {
	attach := start.GetAttach()
	time.Sleep(r.delay)
	if r.boot == 0 || attach.GetNamespace() != "shop" || attach.GetName() != "carts" {
		return run.finish()
	}
	if err := run.header(eventHeader(int64(r.boot))); err != nil {
		return err
	}
	if err := run.explain(&wire.Container{Ref: 1, Name: "web"}); err != nil {
		return err
	}
	var wanted []uint64
	for _, at := range r.times {
		if int64(at) > attach.GetSince() {
			wanted = append(wanted, at)
		}
	}
	if tail := int(attach.GetTail()); tail > 0 {
		wanted = wanted[max(0, len(wanted)-tail):]
	}
	// The numbers that the tape has given don't begin with 0.
	run.sequence = 1000
	if err := r.send(run, wanted); err != nil {
		return err
	}
	if err := run.Send(replayedMessage()); err != nil {
		return err
	}
	if !attach.GetFollow() {
		return run.finish()
	}
	for {
		select {
		case <-run.stop:
			return run.end(nil)
		case at, ok := <-r.live:
			if !ok {
				return run.finish()
			}
			if err := r.send(run, []uint64{at}); err != nil {
				return err
			}
		}
	}
}

func (r *retained) send(run *agentRun, times []uint64) error {
	for len(times) > 0 {
		n := min(len(times), 100)
		var events []event
		for _, at := range times[:n] {
			events = append(events, event{1, record(at-r.boot, at)})
		}
		if err := run.events(events...); err != nil {
			return err
		}
		times = times[n:]
	}
	return nil
}

// finish ends in good order without having been asked to.
func (r *agentRun) finish() error {
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Records: r.sequence}}})
}

// hourAgo is when the records of these tests were made: times are behind it.
func hourAgo() uint64 { return uint64(time.Now().Add(-time.Hour).UnixNano()) }

// every lists count times, step apart.
func every(first, step uint64, count int) []uint64 {
	times := make([]uint64, 0, count)
	for i := range uint64(count) {
		times = append(times, first+i*step)
	}
	return times
}

// timesOf are the times of records, which are 64 bits of their own.
func timesOf(messages []*wire.RunResponse) []uint64 {
	var times []uint64
	for _, m := range messages {
		for _, record := range m.GetBatch().All() {
			times = append(times, numberIn(record))
		}
	}
	return times
}

func carts(follow bool) *wire.Start {
	return &wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "carts", Follow: follow}}
}

func readers(t *testing.T, opts Options) *world {
	t.Helper()
	w := newWorld(t, opts)
	w.allow("jane read shop", true)
	return w
}

// replayed reads until the client knows that all that was retained has come.
func (v *view) replayed() {
	v.tb.Helper()
	m := v.until(func(m *wire.RunResponse) bool { return m.GetReplayed() != nil })
	require.Zero(v.tb, m.GetNode())
}

// TestReplayOfAllNodesComesByTime although one of them is slow to answer.
func TestReplayOfAllNodesComesByTime(t *testing.T) {
	w := readers(t, Options{Window: 10 * time.Millisecond})
	first := hourAgo()
	boot := first - uint64(time.Hour)
	agents := []*fakeAgent{
		w.agent("node1", (&retained{boot: boot, times: every(first, 3, 500)}).play),
		w.agent("node2", (&retained{boot: boot - 77, times: every(first+1, 3, 500), delay: 300 * time.Millisecond}).play),
		w.agent("node3", (&retained{boot: boot + 88, times: every(first+2, 3, 500)}).play),
		w.agent("node4", (&retained{}).play),
	}
	start := carts(false)
	start.Gadget, start.Selector, start.Filter = "trace_x", &wire.Selector{Host: true}, "true"
	v := w.start("jane", start)
	require.Empty(t, v.session().GetNodes(), "nobody knows yet who has something")
	v.replayed()
	require.Equal(t, every(first, 1, 1500), timesOf(v.got))
	end := v.rest()
	require.EqualValues(t, 1500, end.GetRecords(), "not those that were recorded before")
	replays := 0
	for _, m := range v.got {
		require.Nil(t, m.GetGone())
		require.NotEqual(t, "node4", m.GetHeader().GetNode().GetName(), "who has nothing isn't mentioned")
		if m.GetReplayed() != nil {
			replays++
		}
	}
	require.Equal(t, 1, replays)
	for _, a := range agents {
		require.Len(t, a.started(), 1)
		got := a.started()[0]
		require.Empty(t, got.GetGadget(), "an old agent must not find anything to run")
		require.Nil(t, got.GetSelector())
		require.Empty(t, got.GetFilter())
		require.Equal(t, "carts", got.GetAttach().GetName())
	}
}

// TestLargeReplay: what waits of one node leaves room for the others'.
func TestLargeReplay(t *testing.T) {
	const count = 20_000
	w := readers(t, Options{MergeMemory: 256 << 10, Memory: 256 << 10})
	first := hourAgo()
	w.agent("node1", (&retained{boot: first - 1e9, times: every(first, 2, count)}).play)
	w.agent("node2", (&retained{boot: first - 2e9, times: every(first+1, 2, count), delay: 300 * time.Millisecond}).play)
	v := w.start("jane", carts(false))
	v.replayed()
	require.Equal(t, every(first, 1, 2*count), timesOf(v.got))
	require.Zero(t, v.rest().GetLoss().GetRelay())
}

func TestReplayOfSomeRecords(t *testing.T) {
	w := readers(t, Options{})
	first := hourAgo()
	w.agent("node1", (&retained{boot: first - 5, times: every(first, 2, 10)}).play)
	w.agent("node2", (&retained{boot: first - 9, times: every(first+1, 2, 10)}).play)
	start := carts(false)
	start.Attach.Tail = 2
	v := w.start("jane", start)
	v.rest()
	require.Equal(t, every(first+16, 1, 4), timesOf(v.got), "of each node two: which of them are wanted, the client knows")
	start = carts(false)
	start.Attach.Since = int64(first + 10)
	v = w.start("jane", start)
	v.rest()
	require.Equal(t, every(first+11, 1, 9), timesOf(v.got))
	start.Nodes = []string{"node2"}
	v = w.start("jane", start)
	v.rest()
	require.Equal(t, every(first+11, 2, 5), timesOf(v.got))
}

// TestFollowing: behind the replay comes what is being recorded, also that of nodes to
// which the session comes later, until it is over everywhere.
func TestFollowing(t *testing.T) {
	w := readers(t, Options{Window: 10 * time.Millisecond})
	first := hourAgo()
	live := make(chan uint64)
	w.agent("node1", (&retained{boot: first - 5, times: every(first, 1, 3), live: live}).play)
	late := w.agent("node2", (&retained{}).play)
	v := w.start("jane", carts(true))
	v.replayed()
	now := uint64(time.Now().UnixNano())
	live <- now
	v.records(4)
	eventually(t, func() bool { return len(late.started()) > 1 }, "who has nothing is asked again")
	joining := w.agent("node3", (&retained{boot: first - 6, times: every(now+1, 1, 2)}).play)
	v.header("node3")
	v.records(6)
	require.Equal(t, append(every(first, 1, 3), every(now, 1, 3)...), timesOf(v.got))
	v.stop()
	require.EqualValues(t, 6, v.rest().GetRecords())
	require.Len(t, joining.started(), 1)

	v = w.start("jane", carts(true))
	v.replayed()
	close(live)
	w.enlist("node3")
	v.rest()
}

// TestFollowingWaitsForTheSession that no node has yet.
func TestFollowingWaitsForTheSession(t *testing.T) {
	w := readers(t, Options{})
	w.agent("node1", (&retained{}).play)
	v := w.start("jane", carts(true))
	v.replayed()
	w.agent("node2", (&retained{boot: 1, times: []uint64{hourAgo()}}).play)
	v.records(1)
	v.stop()
	v.rest()

	w = readers(t, Options{})
	w.agent("node1", (&retained{}).play)
	v = w.start("jane", carts(false))
	require.Zero(t, v.rest().GetRecords(), "without following there is nothing to wait for")
}

// TestNothingIsShownTwice when an agent is attached to again.
func TestNothingIsShownTwice(t *testing.T) {
	w := readers(t, Options{})
	first := hourAgo()
	live := make(chan uint64, 1)
	tape := &retained{boot: first - 5, times: every(first, 1, 3), live: live}
	a := w.agent("node1", tape.play)
	w.agent("node2", (&retained{}).play)
	start := carts(true)
	start.Attach.Tail = 5
	v := w.start("jane", start)
	v.replayed()
	live <- first + 3
	v.records(4)
	address := a.address
	a.halt()
	v.gone("node1")
	// The tape has kept all, and something more.
	tape.times = every(first, 1, 6)
	w.listen(a, address)
	v.header("node1")
	v.records(6)
	require.Equal(t, every(first, 1, 6), timesOf(v.got))
	require.EqualValues(t, first+3, a.started()[1].GetAttach().GetSince())
	require.Zero(t, a.started()[1].GetAttach().GetTail())
	v.stop()
	require.EqualValues(t, 6, v.rest().GetRecords())
}

// TestOldAgentsAreLeftOut, and run nothing.
func TestOldAgentsAreLeftOut(t *testing.T) {
	w := readers(t, Options{})
	first := hourAgo()
	w.agent("node1", (&retained{boot: first - 5, times: every(first, 1, 3)}).play)
	w.agent("node2", func(*wire.Start, *agentRun) error { return status.Error(codes.NotFound, `unknown gadget ""`) })
	w.agent("node3", func(_ *wire.Start, run *agentRun) error {
		header := eventHeader(0)
		header.Protocol = &wire.Version{Major: 1, Minor: 1}
		return run.header(header)
	})
	v := w.start("jane", carts(false))
	v.replayed()
	v.rest()
	told := map[string]string{}
	for _, m := range v.got {
		if m.GetGone() != nil {
			told[m.GetGone().GetNode()] = m.GetGone().GetReason()
		}
	}
	const old = "its agent is too old for trace sessions: update it"
	require.Equal(t, map[string]string{"node2": old, "node3": old}, told)
	require.Equal(t, every(first, 1, 3), timesOf(v.got))
	start := carts(true)
	start.Nodes = []string{"node2", "node3"}
	w.start("jane", start).fails(codes.FailedPrecondition, old)
}

// TestDeadNodeIsTold, and costs its own records.
func TestDeadNodeIsTold(t *testing.T) {
	t.Parallel()
	w := readers(t, Options{})
	first := hourAgo()
	w.agent("node1", (&retained{boot: first - 5, times: every(first, 1, 3)}).play)
	w.agent("node2", (&retained{boot: first - 5, times: every(first, 1, 3)}).play).halt()
	began := time.Now()
	v := w.start("jane", carts(false))
	v.gone("node2")
	require.Greater(t, time.Since(began), replayPatience-time.Second, "it might only have to be connected to")
	v.rest()
	require.Equal(t, every(first, 1, 3), timesOf(v.got))
}

// TestReadersOfSessions: reading is a right of its own, and asked for again at a resume.
func TestReadersOfSessions(t *testing.T) {
	w := readers(t, Options{})
	w.allow("ops read host", true)
	a := w.agent("node1", (&retained{boot: 1, times: []uint64{hourAgo()}}).play)
	of := func(namespace, name string) *wire.Start {
		return &wire.Start{Attach: &wire.Attach{Namespace: namespace, Name: name, Follow: true}}
	}
	w.start("jane", of("bank", "carts")).fails(codes.PermissionDenied, `user "jane" may not read trace sessions of namespace "bank"`)
	w.start("jane", of("", "carts")).fails(codes.PermissionDenied, "may not read trace sessions of the cluster")
	w.start("admin", of("shop", "carts")).fails(codes.PermissionDenied, "may not read")
	w.start("ops", of("shop", "carts")).fails(codes.PermissionDenied, "may not read")
	w.start("jane", of("shop", "../carts")).fails(codes.InvalidArgument, "is no name of a trace session")
	w.start("jane", of("shop", "")).fails(codes.InvalidArgument, "is no name of a trace session")
	w.start("jane", of("*", "carts")).fails(codes.InvalidArgument, "is no name of a namespace")
	w.start("jane", &wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "carts", Since: -1}}).fails(codes.InvalidArgument, "before 1970")
	require.Empty(t, a.started())
	v := w.start("ops", of("", "carts"))
	v.replayed()
	v.stop()
	v.rest()

	v = w.start("jane", of("shop", "carts"))
	id := v.session().GetId()
	v.replayed()
	w.allow("jane read shop", false)
	v.cancel()
	w.resume("jane", id, 1).fails(codes.PermissionDenied, "may not read trace sessions")
}

// TestResumeOfAReplay at every point of it.
func TestResumeOfAReplay(t *testing.T) {
	w := readers(t, Options{})
	first := hourAgo()
	w.agent("node1", (&retained{boot: first - 5, times: every(first, 2, 400)}).play)
	w.agent("node2", (&retained{boot: first - 9, times: every(first+1, 2, 400)}).play)
	for cut := 1; cut < 8; cut++ {
		v := w.start("jane", carts(false))
		id := v.session().GetId()
		for len(v.got) < cut {
			_, err := v.next()
			require.NoError(t, err)
		}
		v.cancel()
		resumed := w.resume("jane", id, uint64(cut))
		require.Zero(t, resumed.session().GetMissedMessages())
		resumed.replayed()
		resumed.rest()
		require.Equal(t, every(first, 1, 800), timesOf(append(v.got[:cut], resumed.got...)))
	}
}

// TestReplayedIsRecalled: who missed the word that all has come is told again.
func TestReplayedIsRecalled(t *testing.T) {
	w := readers(t, Options{Memory: 32 << 10, Window: time.Millisecond})
	first := hourAgo()
	live := make(chan uint64)
	w.agent("node1", (&retained{boot: first - 5, times: every(first, 1, 3), live: live}).play)
	v := w.start("jane", carts(true))
	id := v.session().GetId()
	v.replayed()
	for i := range uint64(200) {
		live <- first + 10 + i
		v.records(int(i) + 4)
	}
	v.cancel()
	v = w.resume("jane", id, 1)
	require.NotZero(t, v.session().GetMissedMessages())
	v.header("node1")
	m := v.until(func(m *wire.RunResponse) bool { return m.GetReplayed() != nil })
	require.Zero(t, m.GetSequence())
	v.stop()
	v.rest()
}
