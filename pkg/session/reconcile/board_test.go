// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// began is a board that has settled, with the agents of nodes that have reported nothing.
func began(names ...string) (*board, map[string]*seat) {
	b := newBoard()
	b.start(epoch)
	seats := map[string]*seat{}
	for _, name := range names {
		seats[name] = b.join(name, epoch)
		b.report(seats[name], epoch, says())
	}
	return b, seats
}

// TestCounts: sums over nodes whose counters restart.
func TestCounts(t *testing.T) {
	b, seats := began("a", "b")
	s := plain(t, "s")
	sums := func(at time.Duration) (events, lost int64) {
		v := b.view(s, after(at))
		return v.events, v.lost
	}
	b.report(seats["a"], after(1*time.Second), says(runs("s", after(time.Second), 10, 1)))
	b.report(seats["b"], after(1*time.Second), says(runs("s", after(time.Second), 20, 0)))
	events, lost := sums(time.Second)
	require.Equal(t, []int64{30, 1}, []int64{events, lost})
	// One goes on, the other's agent has restarted.
	b.report(seats["a"], after(2*time.Second), says(runs("s", after(time.Second), 15, 2)))
	b.report(seats["b"], after(2*time.Second), says(runs("s", after(2*time.Second), 3, 1)))
	events, lost = sums(2 * time.Second)
	require.Equal(t, []int64{38, 3}, []int64{events, lost})
	// A counter that went back without saying so.
	b.report(seats["b"], after(3*time.Second), says(runs("s", after(2*time.Second), 1, 0)))
	events, _ = sums(3 * time.Second)
	require.EqualValues(t, 39, events)
	// What is gone has been counted.
	b.know("s", types.NamespacedName{Namespace: "shop", Name: "s"}, after(4*time.Second), &v1alpha1.SessionStatus{})
	b.report(seats["b"], after(4*time.Second), &wire.SessionsReport{Gone: []string{"s", "unheard of"}})
	b.leave(seats["a"], after(4*time.Second))
	b.prune(after(time.Hour))
	events, lost = sums(time.Hour)
	require.Equal(t, []int64{39, 3}, []int64{events, lost})
}

// TestCountsOfAllKinds: everything that is lost is lost.
func TestCountsOfAllKinds(t *testing.T) {
	b, seats := began("a")
	state := runs("s", epoch, 1, 0)
	state.Loss = &wire.Loss{Kernel: 1, Queue: 20, Relay: 300, Throttled: 4000, Skipped: 5e5, Unresolved: 5e5, Withheld: 5e5}
	state.Outputs = []*wire.OutputState{{Name: "file", Written: 7, Dropped: 2, Error: "disk full"}, {Name: "pigeon", Written: 1, Error: "tired"}}
	b.report(seats["a"], after(time.Second), says(state))
	v := b.view(plain(t, "s"), after(time.Second))
	require.EqualValues(t, 4321, v.lost)
	require.Equal(t, map[string]outputView{"file": {written: 7, dropped: 2, failing: 1, node: "a", err: "disk full"}}, v.outputs)
}

// TestAnotherControllersCounts are gone on with, and never gone back behind.
func TestAnotherControllersCounts(t *testing.T) {
	for _, test := range []struct {
		name string
		// status is what the last controller wrote; first and then is what a and b say.
		status      int64
		first, then [2]uint64
		began       time.Duration
		want        [2]int64
	}{
		{"it had seen all", 100, [2]uint64{60, 40}, [2]uint64{61, 42}, -time.Minute, [2]int64{100, 103}},
		{"it had not seen the last", 90, [2]uint64{60, 40}, [2]uint64{60, 41}, -time.Minute, [2]int64{100, 101}},
		{"it knew of agents that are gone", 1000, [2]uint64{60, 40}, [2]uint64{61, 41}, -time.Minute, [2]int64{1000, 1002}},
		{"the agents have begun since", 1000, [2]uint64{60, 40}, [2]uint64{61, 41}, time.Minute, [2]int64{1100, 1102}},
		{"a status that can't be", -5, [2]uint64{60, 40}, [2]uint64{61, 41}, -time.Minute, [2]int64{100, 102}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, seats := began("a", "b")
			b.know("s", types.NamespacedName{Namespace: "shop", Name: "s"}, epoch, &v1alpha1.SessionStatus{
				Events: test.status, Lost: test.status, Gaps: 3, LastGap: &v1alpha1.Gap{Node: "z"},
				Outputs: []v1alpha1.OutputStatus{{Name: "file", Written: test.status}},
			})
			for i, said := range [][2]uint64{test.first, test.then} {
				for n, name := range []string{"a", "b"} {
					state := runs("s", after(test.began), said[n], said[n])
					state.Outputs = []*wire.OutputState{{Name: "file", Written: said[n]}}
					b.report(seats[name], after(2*time.Minute), says(state))
				}
				v := b.view(plain(t, "s"), after(2*time.Minute))
				require.Equal(t, test.want[i], v.events)
				require.Equal(t, test.want[i], v.lost)
				require.Equal(t, test.want[i], v.outputs["file"].written)
				require.EqualValues(t, 3, v.gaps)
				require.Equal(t, "z", v.lastGap.node)
			}
		})
	}
}

// step is something that happens to a node's agent.
type step struct {
	at   time.Duration
	what func(b *board, s *seat, now time.Time) *seat
}

func report(at time.Duration, states ...*wire.SessionState) step {
	return step{at, func(b *board, s *seat, now time.Time) *seat {
		b.report(s, now, says(states...))
		return s
	}}
}

func breaks(at time.Duration) step {
	return step{at, func(b *board, s *seat, now time.Time) *seat {
		b.broken(s, now, reasonUnavailable, "gone")
		return s
	}}
}

func replaced(at time.Duration) step {
	return step{at, func(b *board, s *seat, now time.Time) *seat {
		another := b.join(s.name, now)
		b.leave(s, now)
		return another
	}}
}

func leaves(at time.Duration) step {
	return step{at, func(b *board, s *seat, now time.Time) *seat {
		b.leave(s, now)
		return b.join(s.name, now.Add(time.Minute))
	}}
}

// TestGaps: from when it is last known to have run until it runs again.
func TestGaps(t *testing.T) {
	const s = time.Second
	first, second := after(1*s), after(60*s)
	pending := &wire.SessionState{Uid: "s", Namespace: "shop", Name: "s"}
	for _, test := range []struct {
		name  string
		steps []step
		// from and to are of the last gap, in seconds.
		gaps     int64
		from, to time.Duration
	}{
		{"none", []step{report(1*s, runs("s", first, 1, 0)), report(2*s, runs("s", first, 2, 0))}, 0, 0, 0},
		{"the agent restarted", []step{report(1*s, runs("s", first, 1, 0)), report(50*s, runs("s", first, 9, 0)), breaks(51 * s), report(60*s, runs("s", second, 1, 0))}, 1, 50 * s, 60 * s},
		{"the node was quiet before", []step{report(1*s, runs("s", first, 1, 0)), breaks(51 * s), report(60*s, runs("s", second, 1, 0))}, 1, 34 * s, 60 * s},
		{"the new agent doesn't know it at first", []step{report(50*s, runs("s", first, 1, 0)), breaks(51 * s), report(55 * s), report(56*s, pending), report(60*s, runs("s", second, 1, 0))}, 1, 50 * s, 60 * s},
		{"another agent came", []step{report(50*s, runs("s", first, 1, 0)), replaced(51 * s), report(60*s, runs("s", second, 1, 0))}, 1, 50 * s, 60 * s},
		{"an agent came after a while", []step{report(50*s, runs("s", first, 1, 0)), leaves(51 * s), report(120*s, runs("s", after(115*s), 1, 0))}, 1, 50 * s, 115 * s},
		{"the controller's connection broke", []step{report(1*s, runs("s", first, 1, 0)), breaks(2 * s), report(60*s, runs("s", first, 9, 0))}, 0, 0, 0},
		{"it failed", []step{report(1*s, runs("s", first, 1, 0)), report(50*s, fails("s", "X", "y")), report(60*s, runs("s", second, 1, 0))}, 1, 45 * s, 60 * s},
		{"it failed, and its agent counts on", []step{report(1*s, runs("s", first, 1, 0)), report(50*s, fails("s", "X", "y")), report(60*s, runs("s", first, 9, 0))}, 1, 45 * s, 60 * s},
		{"it failed from the beginning", []step{report(1*s, fails("s", "X", "y")), report(60*s, runs("s", second, 1, 0))}, 0, 0, 0},
		{"it was suspended", []step{report(1*s, runs("s", first, 1, 0)), report(50*s, stopped("s")), report(60*s, runs("s", second, 1, 0))}, 0, 0, 0},
		{"it was suspended after it had failed", []step{report(1*s, runs("s", first, 1, 0)), report(2*s, fails("s", "X", "y")), report(50*s, stopped("s")), report(60*s, runs("s", second, 1, 0))}, 0, 0, 0},
		{"clocks that differ", []step{report(50*s, runs("s", first, 1, 0)), breaks(51 * s), report(60*s, runs("s", after(40*s), 1, 0))}, 1, 50 * s, 50 * s},
		{"twice", []step{
			report(1*s, runs("s", first, 1, 0)), breaks(2 * s), report(60*s, runs("s", second, 1, 0)),
			breaks(100 * s), report(110*s, runs("s", after(110*s), 1, 0)),
		}, 2, 83 * s, 110 * s},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, seats := began("a")
			seat := seats["a"]
			for _, step := range test.steps {
				seat = step.what(b, seat, after(step.at))
			}
			v := b.view(plain(t, "s"), after(3*time.Minute))
			require.Equal(t, test.gaps, v.gaps)
			if test.gaps > 0 {
				require.Equal(t, gap{"a", after(test.from), after(test.to)}, gap{v.lastGap.node, v.lastGap.from.UTC(), v.lastGap.to.UTC()})
			}
		})
	}
}

// TestNodes: which nodes count, and as what.
func TestNodes(t *testing.T) {
	b, seats := began("a", "b", "c", "d")
	s := plain(t, "s")
	b.report(seats["a"], after(time.Second), says(runs("s", epoch, 1, 0)))
	b.report(seats["b"], after(time.Second), says(fails("s", "LoadFailed", "no BTF")))
	v := b.view(s, after(2*time.Second))
	require.Equal(t, []int{4, 1, 1}, []int{v.desired, v.running, v.failed})
	require.Equal(t, []failure{{"b", "LoadFailed", "no BTF"}}, v.failures)
	require.True(t, v.unsure)
	require.True(t, v.settled)

	// An agent that doesn't come to know of it.
	v = b.view(s, after(sluggish))
	require.Equal(t, []int{4, 1, 3}, []int{v.desired, v.running, v.failed})
	require.Equal(t, reasonNotSeen, v.failures[1].reason)

	// One that breaks is given a moment.
	b.broken(seats["a"], after(time.Minute), reasonUnavailable, "connection refused")
	v = b.view(s, after(time.Minute+patience-1))
	require.Equal(t, []int{4, 1, 3}, []int{v.desired, v.running, v.failed})
	v = b.view(s, after(time.Minute+patience))
	require.Equal(t, []int{4, 0, 4}, []int{v.desired, v.running, v.failed})
	require.Equal(t, failure{"a", reasonUnavailable, "connection refused"}, v.failures[0])

	// A node that the session isn't for, one that is gone, one that comes.
	s.Nodes = []string{"b", "c", "e", "f"}
	b.leave(seats["c"], after(time.Minute))
	b.join("e", after(time.Minute))
	v = b.view(s, after(time.Minute+patience))
	require.Equal(t, []int{2, 0, 2}, []int{v.desired, v.running, v.failed})
	require.Equal(t, failure{"e", reasonUnavailable, "no connection to the agent yet"}, v.failures[1])
}

// TestFailuresAreFew, the first by name.
func TestFailuresAreFew(t *testing.T) {
	b := newBoard()
	b.start(epoch)
	for i := range 100 {
		b.report(b.join(fmt.Sprintf("node%02d", 99-i), epoch), epoch, says(fails("s", "X", "y")))
	}
	v := b.view(plain(t, "s"), epoch)
	require.Equal(t, 100, v.failed)
	require.Len(t, v.failures, maxFailures)
	require.Equal(t, "node00", v.failures[0].node)
	require.Equal(t, "node09", v.failures[9].node)
}

// TestOldSeats: an agent that was replaced doesn't speak for the node any more.
func TestOldSeats(t *testing.T) {
	b, seats := began("a")
	b.join("a", after(time.Second))
	b.report(seats["a"], after(2*time.Second), says(runs("s", epoch, 1, 0)))
	b.broken(seats["a"], after(2*time.Second), "X", "old")
	b.leave(seats["a"], after(2*time.Second))
	v := b.view(plain(t, "s"), after(2*time.Second))
	require.Equal(t, []int{1, 0}, []int{v.desired, v.running})
	require.NotEqual(t, "old", b.nodes["a"].problem)
}

// TestReaders: who reads is who is connected; who was is remembered.
func TestReaders(t *testing.T) {
	b, seats := began("a", "b")
	s := plain(t, "s")
	reads := func(n uint32) *wire.SessionState {
		state := runs("s", epoch, 1, 0)
		state.Readers = n
		return state
	}
	b.report(seats["a"], after(1*time.Second), says(reads(0)))
	v := b.view(s, after(1*time.Second))
	require.False(t, v.reading)
	require.True(t, v.lastRead.IsZero())
	b.report(seats["a"], after(2*time.Second), says(reads(2)))
	require.True(t, b.view(s, after(time.Hour)).reading)
	b.report(seats["a"], after(3*time.Second), says(reads(0)))
	v = b.view(s, after(4*time.Second))
	require.False(t, v.reading)
	require.Equal(t, after(3*time.Second), v.lastRead)
	b.report(seats["a"], after(5*time.Second), says(reads(1)))
	b.broken(seats["a"], after(9*time.Second), "X", "y")
	v = b.view(s, after(10*time.Second))
	require.False(t, v.reading)
	require.Equal(t, after(9*time.Second), v.lastRead)
}

// TestSettling: a controller that has just begun doesn't know enough.
func TestSettling(t *testing.T) {
	b := newBoard()
	s := plain(t, "s")
	require.False(t, b.view(s, after(time.Hour)).settled, "it doesn't listen yet")
	b.start(epoch)
	require.False(t, b.view(s, after(settlingLeast-1)).settled)
	require.True(t, b.view(s, after(settlingLeast)).settled)
	seat := b.join("a", epoch)
	require.False(t, b.view(s, after(settling-1)).settled)
	require.True(t, b.view(s, after(settling)).settled)
	b.report(seat, epoch, says())
	require.True(t, b.view(s, after(settlingLeast)).settled)
}

// TestNews: a reconciler is told once until it has looked.
func TestNews(t *testing.T) {
	b, seats := began("a")
	var told []string
	cluster := runs("c", epoch, 1, 0)
	cluster.Namespace = ""
	b.report(seats["a"], epoch, says(runs("s", epoch, 1, 0), cluster))
	b.onNews(false, func(key types.NamespacedName) { told = append(told, key.String()) })
	b.onNews(true, func(key types.NamespacedName) { told = append(told, "cluster "+key.Name) })
	require.Equal(t, []string{"shop/s", "cluster c"}, told, "what came before it listened")
	b.report(seats["a"], epoch, says(runs("s", epoch, 2, 0)))
	require.Len(t, told, 2)
	b.view(plain(t, "s"), epoch)
	b.report(seats["a"], epoch, says(runs("s", epoch, 3, 0)))
	require.Equal(t, []string{"shop/s", "cluster c", "shop/s"}, told)
	b.view(plain(t, "s"), epoch)
	b.broken(seats["a"], epoch, "X", "y")
	b.broken(seats["a"], epoch, "X", "y")
	require.Len(t, told, 4)
}

// TestForgetting: what agents say before the controller knows of a session is kept for a
// while, and so is what there was of one that is gone.
func TestForgetting(t *testing.T) {
	b, seats := began("a")
	key := types.NamespacedName{Namespace: "shop", Name: "s"}
	b.report(seats["a"], epoch, says(runs("s", epoch, 5, 0)))
	b.forget(key, "", epoch)
	b.prune(after(awaited - 1))
	b.know("s", key, after(awaited-1), &v1alpha1.SessionStatus{Events: 2})
	b.prune(after(time.Hour))
	require.EqualValues(t, 7, b.view(plain(t, "s"), after(time.Hour)).events)
	// Another of the name.
	b.forget(key, "s2", after(time.Hour))
	b.prune(after(time.Hour + awaited))
	require.Empty(t, b.entries)

	b.leave(seats["a"], after(time.Hour))
	b.prune(after(time.Hour + remembered - 1))
	require.Len(t, b.nodes, 1)
	b.prune(after(time.Hour + remembered))
	require.Empty(t, b.nodes)
}
