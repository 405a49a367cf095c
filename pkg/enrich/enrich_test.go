// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
)

func TestWhoSeesWhat(t *testing.T) {
	cart := func(labels map[string]string) bool { return labels["app"] == "cart" }
	unresolvable := &container.Container{Ref: 4, ID: "id4", Unresolved: true}
	world := []container.Change{
		known(1, pod(1, "shop", "cart-1", "cart")), known(2, pod(2, "shop", "db-1", "db")), known(3, pod(3, "bank", "cart-1", "cart")),
		known(4, unresolvable), state(5, container.Host), state(6, container.Foreign), state(7, container.Pending),
	}
	const none = UnresolvedRef
	for _, test := range []struct {
		name      string
		selection Selection
		want      []uint32
		in, out   []uint64
		withheld  uint64
	}{
		{"all containers", Selection{}, []uint32{1, 2, 3, 4, none, none}, []uint64{1, 2, 3}, []uint64{5, 6}, 0},
		{"all and the host", Selection{Host: true}, []uint32{1, 2, 3, 4, 0, none, none, 0}, []uint64{1, 2, 3, 5}, []uint64{6}, 0},
		{"the machine", machine, []uint32{1, 2, 3, 4, 0, 0, none, none, 0}, []uint64{1, 2, 3, 5, 6}, nil, 0},
		{"the machine, whatever else is said", Selection{Machine: true, Pods: []string{"x"}}, []uint32{1, 2, 3, 4, 0, 0, none, none, 0}, []uint64{1, 2, 3, 5, 6}, nil, 0},
		{"a namespace", inShop, []uint32{1, 2}, []uint64{1, 2}, []uint64{3, 5, 6}, 3},
		{"two namespaces", Selection{Namespaces: []string{"bank", "shop"}}, []uint32{1, 2, 3}, []uint64{1, 2, 3}, []uint64{5, 6}, 3},
		{"a pod in any namespace", Selection{Pods: []string{"cart-1"}}, []uint32{1, 3}, []uint64{1, 3}, []uint64{2, 5, 6}, 3},
		{"a pod in a namespace", Selection{Namespaces: []string{"shop"}, Pods: []string{"cart-1"}}, []uint32{1}, []uint64{1}, []uint64{2, 3, 5, 6}, 3},
		{"labels in a namespace", Selection{Namespaces: []string{"shop"}, Labels: cart}, []uint32{1}, []uint64{1}, []uint64{2, 3, 5, 6}, 3},
		{"a container", Selection{Containers: []string{"web"}}, []uint32{1, 2, 3}, []uint64{1, 2, 3}, []uint64{5, 6}, 3},
		{"another container", Selection{Containers: []string{"init"}}, nil, nil, []uint64{1, 2, 3, 5, 6}, 3},
		{"a namespace and the host", Selection{Namespaces: []string{"shop"}, Host: true}, []uint32{1, 2, 0}, []uint64{1, 2, 5}, []uint64{3, 6}, 3},
		{"an empty name", Selection{Namespaces: []string{""}}, nil, nil, []uint64{1, 2, 3, 5, 6}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, Options{Selection: test.selection, Hold: time.Hour}, world...)
			// Cgroup 8 is one that the registry doesn't know, 0 the whole machine.
			for id := uint64(1); id <= 8; id++ {
				r.record(id, 0, id)
			}
			r.record(0, 0, 9)
			r.Release()
			var refs []uint32
			for _, out := range r.taken() {
				refs = append(refs, out.ref)
			}
			// Those that had to wait come last.
			slices.Sort(refs)
			want := slices.Clone(test.want)
			slices.Sort(want)
			require.Equal(t, want, refs)
			wantVerdicts := map[uint64]Verdict{}
			for _, id := range test.in {
				wantVerdicts[id] = In
			}
			for _, id := range test.out {
				wantVerdicts[id] = Out
			}
			require.Equal(t, wantVerdicts, r.verdicts)
			require.Equal(t, test.withheld, r.Withheld())
			if test.withheld == 0 {
				require.EqualValues(t, 3, r.Unresolved())
			} else {
				require.Zero(t, r.Unresolved())
			}
			r.close(len(test.want))
		})
	}
}

func TestRecordsWaitInOrderForTheirOwnCgroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Selection: inShop}, known(1, pod(1, "shop", "a")))
		r.record(2, 0, 0)
		r.record(3, 0, 1)
		r.record(1, 0, 2)
		r.record(2, 0, 3)
		require.Equal(t, []emitted{{1, 0, 2}}, r.taken(), "others don't wait")
		require.Equal(t, []uint64{2, 3}, r.feed.asked)
		// The runtime takes its time; a second record comes with the news.
		r.feed.tell(state(2, container.Pending))
		r.Flush()
		time.Sleep(DefaultHold - time.Millisecond)
		r.Flush()
		require.Empty(t, r.taken())
		r.feed.tell(known(2, pod(2, "shop", "b")))
		r.record(2, 0, 4)
		require.Equal(t, []emitted{{2, 0, 0}, {2, 0, 3}, {2, 0, 4}}, r.taken())
		// The other one is never known.
		time.Sleep(2 * time.Millisecond)
		r.Flush()
		require.Empty(t, r.taken())
		require.EqualValues(t, 1, r.Withheld())
		r.record(3, 0, 5)
		require.EqualValues(t, 2, r.Withheld(), "it is not waited for again")
		// Until there are news after all.
		r.feed.tell(known(3, pod(3, "shop", "c")))
		r.record(3, 0, 6)
		require.Equal(t, []emitted{{3, 0, 6}}, r.taken())
		r.close(5)
	})
}

func TestUnresolvedRecordsAreMarkedNotGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		r.record(1, 0, 0)
		time.Sleep(DefaultHold)
		r.Flush()
		require.Equal(t, []emitted{{UnresolvedRef, 0, 0}}, r.taken())
		require.Equal(t, []*container.Container{{Ref: UnresolvedRef, Unresolved: true}}, r.defined)
		r.record(1, 0, 1)
		require.Len(t, r.defined, 1, "it is explained once")
		r.unwanted = true
		r.record(1, 0, 2)
		require.EqualValues(t, 2, r.Unresolved(), "what nobody wants isn't sent")
		r.unwanted = false
		// Its ids come to be known, then all.
		r.feed.tell(known(1, &container.Container{Ref: 7, ID: "x", Unresolved: true}))
		r.record(1, 0, 2)
		require.EqualValues(t, 3, r.Unresolved())
		r.feed.tell(known(1, pod(7, "shop", "a")))
		r.record(1, 0, 3)
		require.EqualValues(t, 3, r.Unresolved())
		require.Equal(t, []emitted{{UnresolvedRef, 0, 1}, {UnresolvedRef, 0, 2}, {7, 0, 2}, {7, 0, 3}}, r.taken())
		require.Len(t, r.defined, 3)
		r.close(5)
	})
}

// TestLabelsDecideAtAnyTime: a pod that stops matching is no longer traced, and one
// that begins to is.
func TestLabelsDecideAtAnyTime(t *testing.T) {
	selection := Selection{Labels: func(l map[string]string) bool { return l["app"] == "cart" }}
	// Two cgroups of one container.
	r := newRig(t, Options{Selection: selection}, known(1, pod(1, "shop", "a", "cart")), known(2, pod(1, "shop", "a", "cart")))
	r.record(1, 0, 0)
	r.record(2, 0, 1)
	require.Len(t, r.defined, 1)

	other := pod(1, "shop", "a", "db")
	r.feed.tell(known(1, other), known(2, other))
	r.record(1, 0, 2)
	r.record(2, 0, 3)
	require.Equal(t, map[uint64]Verdict{1: Out, 2: Out}, r.verdicts)
	require.Len(t, r.defined, 1, "what it has become is none of the run's business")

	again := pod(1, "shop", "a", "cart")
	r.feed.tell(known(1, again), known(2, again))
	r.Flush()
	require.Equal(t, map[uint64]Verdict{1: In, 2: In}, r.verdicts)
	r.record(2, 0, 4)
	require.Equal(t, []emitted{{1, 0, 0}, {1, 0, 1}, {1, 0, 4}}, r.taken())
	require.Len(t, r.defined, 2)
	require.Same(t, again, r.defined[1])

	// News of a container in use are told at once, others' when they are used.
	stale := pod(1, "shop", "a", "cart")
	stale.Stale = true
	r.feed.tell(known(1, stale), known(2, stale), known(3, pod(2, "shop", "b", "cart")))
	r.Flush()
	require.Len(t, r.defined, 3)
	require.Same(t, stale, r.defined[2])
	r.close(3)
}

func TestForgottenCgroupLeavesNothing(t *testing.T) {
	r := newRig(t, Options{Selection: inShop}, known(1, pod(1, "shop", "a")), known(2, pod(1, "shop", "a")), state(3, container.Host))
	r.record(1, 0, 0)
	r.record(4, 0, 1)
	r.feed.tell(container.Change{CgroupID: 1, State: container.Known, Container: pod(1, "shop", "a"), Gone: true})
	r.Flush()
	require.Equal(t, map[uint64]Verdict{2: In, 3: Out}, r.verdicts)
	require.Len(t, r.subjects, 1)
	r.feed.tell(container.Change{CgroupID: 2, Gone: true}, container.Change{CgroupID: 3, Gone: true},
		// One that was never known, and one of which all news come at once.
		container.Change{CgroupID: 4, Gone: true},
		container.Change{CgroupID: 5, State: container.Known, Container: pod(5, "shop", "z"), Gone: true})
	r.record(5, 0, 2)
	require.Empty(t, r.verdicts)
	require.Empty(t, r.subjects)
	require.EqualValues(t, 1, r.Withheld())
	r.Release()
	require.Equal(t, []emitted{{1, 0, 0}}, r.taken())
	require.EqualValues(t, 2, r.Withheld(), "a cgroup that is forgotten is unknown again")
	require.Len(t, r.cgroups, 2, "that one, and the machine")
	r.close(1)
}

// TestForgottenTargetIsStillNamed: a record may wait behind one that waits longer.
func TestForgottenTargetIsStillNamed(t *testing.T) {
	r := newRig(t, Options{Target: &theirs}, known(1, pod(1, "shop", "a")), known(2, pod(2, "shop", "b")), known(3, pod(3, "shop", "c")))
	r.record(1, 8, 0)
	r.record(1, 2, 1)
	r.record(3, 8, 2)
	r.feed.tell(container.Change{CgroupID: 2, Gone: true}, container.Change{CgroupID: 3, Gone: true})
	r.Flush()
	require.Equal(t, []emitted{{3, UnresolvedRef, 2}}, r.taken(), "a cgroup is forgotten with all that waits")
	r.feed.tell(container.Change{CgroupID: 8, Gone: true})
	r.Flush()
	require.Equal(t, []emitted{{1, UnresolvedRef, 0}, {1, 2, 1}}, r.taken())
	r.close(3)
}

func TestMemoryOfWaitingRecordsIsBounded(t *testing.T) {
	const limit = 10_000
	r := newRig(t, Options{Selection: Selection{Host: true}, HoldBytes: limit})
	const n = 1000
	for i := range uint64(n) {
		r.record(i%7+1, 0, i)
		require.LessOrEqual(t, r.held.bytes, limit)
	}
	out := r.taken()
	require.NotEmpty(t, out)
	for i, o := range out {
		require.Equal(t, emitted{UnresolvedRef, 0, uint64(i)}, o, "the oldest go first")
	}
	// What was let go for lack of room may still become known.
	for id := range uint64(7) {
		r.feed.tell(known(id+1, pod(uint32(id+1), "shop", "a")))
	}
	r.Flush()
	rest := r.taken()
	require.Len(t, rest, n-len(out))
	for _, o := range rest {
		require.EqualValues(t, o.number%7+1, o.ref)
	}
	r.close(n)

	tiny := newRig(t, Options{HoldBytes: 1})
	tiny.record(1, 0, 0)
	require.Len(t, tiny.taken(), 1, "one that is larger than all memory doesn't wait")
	tiny.close(1)
}

func TestSilentRegistryDoesNotFillTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Hold: time.Millisecond})
		for i := range uint64(3 * maxOverdue) {
			r.record(i+1, 0, i)
			time.Sleep(time.Millisecond)
			r.Flush()
			require.LessOrEqual(t, len(r.cgroups), maxOverdue+2)
		}
		r.close(3 * maxOverdue)
	})
}

func TestShortRecordIsNobodys(t *testing.T) {
	r := newRig(t, Options{})
	r.in++
	r.Record([]byte{1, 2, 3})
	require.Empty(t, r.taken())
	require.EqualValues(t, 1, r.filtered)
	r.close(0)
	short := []byte{1, 2, 3, 4, 5}
	(&Identity{Parts: []Part{{Offset: 2, Size: 100}, {Offset: 90, Size: 4}, {Offset: 1, Size: 4, Tail: true}}}).blank(short)
	require.Equal(t, []byte{1, 0, 0, 0, 0}, short)
}

// TestLostExplanationsAreGivenAgain: whoever sends them may have had no room.
func TestLostExplanationsAreGivenAgain(t *testing.T) {
	r := newRig(t, Options{Target: &theirs}, known(1, pod(1, "shop", "a")), known(2, pod(2, "shop", "b")), state(3, container.Host))
	for range 2 {
		r.defined = nil
		r.record(1, 3, 0)
		r.record(1, 3, 0)
		require.Len(t, r.defined, 2, "a pod, and what is hidden")
		r.Again()
		news := pod(1, "shop", "a")
		r.feed.tell(known(1, news))
		r.Flush()
		require.Len(t, r.defined, 2, "news come with the next use")
	}
	require.False(t, r.Waiting())
	r.record(9, 1, 0)
	require.True(t, r.Waiting())
	r.close(5)
}

func TestFilterThatTakesNoVerdictsCostsNothingElse(t *testing.T) {
	r := newRig(t, Options{Selection: inShop})
	r.refuse = true
	r.feed.tell(known(1, pod(1, "shop", "a")), state(2, container.Host))
	r.record(1, 0, 0)
	r.record(2, 0, 1)
	require.Empty(t, r.verdicts)
	require.Equal(t, []emitted{{1, 0, 0}}, r.taken())
	// The next change tries again.
	r.refuse = false
	r.feed.tell(state(2, container.Host))
	r.Flush()
	require.Equal(t, map[uint64]Verdict{2: Out}, r.verdicts)
	r.close(1)
}
