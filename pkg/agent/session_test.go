// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/wire"
)

// execs is a session that records what pods of a namespace execute.
func execs(namespace, name string) session.Session {
	return session.Session{
		UID: apitypes.UID("uid-" + name), Namespace: namespace, Name: name, Generation: 1, Created: time.Now(),
		Spec:     v1alpha1.SessionSpec{Gadget: v1alpha1.GadgetRef{Name: "trace_exec"}, Params: map[string]string{"comm": "true"}},
		Selector: &wire.Selector{Namespaces: []string{namespace}},
	}
}

// sessionsOf are the sessions as the node last told of them.
func (n *testNode) sessionsOf(all ...session.Session) {
	n.agent.sessions.set(n.t.Context(), all)
}

// awaitState returns the session's state when it is as wanted.
func (n *testNode) awaitState(name string, wanted func(*wire.SessionState) bool) *wire.SessionState {
	n.t.Helper()
	var last *wire.SessionState
	require.Eventually(n.t, func() bool {
		for _, r := range n.agent.sessions.all() {
			if state := r.state(); state.GetName() == name {
				last = state
				return wanted(state)
			}
		}
		return false
	}, 10*time.Second, 10*time.Millisecond, "%v", last)
	return last
}

func in(phase wire.SessionState_Phase, generation int64) func(*wire.SessionState) bool {
	return func(s *wire.SessionState) bool { return s.GetPhase() == phase && s.GetGeneration() == generation }
}

// read reads what a session retains, to its end.
func (n *testNode) read(attach *wire.Attach) *watch {
	n.t.Helper()
	w := n.watch(&wire.Start{Attach: attach})
	require.NoError(n.t, <-w.done)
	require.NotNil(n.t, w.end)
	require.EqualValues(n.t, len(w.all), w.end.GetRecords()-w.end.GetLoss().GetQueue())
	return w
}

// marks are the second arguments of what was executed.
func (w *watch) marks() []string {
	w.t.Helper()
	var marks []string
	for _, s := range w.all {
		marks = append(marks, strings.Fields(w.value(s.record, "args"))[1])
	}
	return marks
}

// endSessions lets all sessions go before the node does.
func (n *testNode) endSessions() {
	n.sessionsOf()
	n.agent.sessions.close()
}

func TestSessionIsRecordedAndRead(t *testing.T) {
	n := newTestNode(t, Options{})
	defer n.endSessions()
	cart, bank := n.container("shop", "cart-1", "web", nil), n.container("bank", "vault-1", "web", nil)
	n.sessionsOf(execs("shop", "carts"))
	state := n.awaitState("carts", in(wire.SessionState_RUNNING, 1))
	require.NotEmpty(t, state.GetProgram())
	for i := range 5 {
		cart.run("/bin/true", fmt.Sprint("cart-", i))
		bank.run("/bin/true", fmt.Sprint("vault-", i))
	}
	n.awaitState("carts", func(s *wire.SessionState) bool { return s.GetRecords() == 5 })

	w := n.read(&wire.Attach{Namespace: "shop", Name: "carts"})
	require.Equal(t, []string{"cart-0", "cart-1", "cart-2", "cart-3", "cart-4"}, w.marks())
	require.Equal(t, "cart-1", w.all[0].by.GetPod())
	w = n.read(&wire.Attach{Namespace: "shop", Name: "carts", Tail: 2})
	require.Equal(t, []string{"cart-3", "cart-4"}, w.marks())

	smaller := execs("shop", "carts")
	smaller.Generation, smaller.Spec.Output.Stream = 2, &v1alpha1.StreamOutput{Retain: 3}
	n.sessionsOf(smaller)
	n.awaitState("carts", in(wire.SessionState_RUNNING, 2))
	require.Equal(t, []string{"cart-2", "cart-3", "cart-4"}, n.read(&wire.Attach{Namespace: "shop", Name: "carts"}).marks())

	follower := n.watch(&wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "carts", Uid: "uid-carts", Tail: 1, Follow: true}})
	n.awaitState("carts", func(s *wire.SessionState) bool { return s.GetReaders() == 1 })
	cart.run("/bin/true", "cart-5")
	require.Eventually(t, func() bool { return len(follower.arrive) >= 2 }, 5*time.Second, 10*time.Millisecond)
	follower.stop()
	require.Equal(t, []string{"cart-4", "cart-5"}, follower.marks())
	n.awaitState("carts", func(s *wire.SessionState) bool { return s.GetReaders() == 0 })
}

// TestSessionThatIsNotThere refuses what can't be read, and says why.
func TestSessionThatIsNotThere(t *testing.T) {
	n := newTestNode(t, Options{})
	defer n.endSessions()
	broken, silent := execs("shop", "broken"), execs("shop", "silent")
	broken.Spec.Params = map[string]string{"no-such": "1"}
	silent.Spec.Output.Metrics = &v1alpha1.MetricsOutput{}
	n.sessionsOf(broken, silent)
	state := n.awaitState("broken", in(wire.SessionState_FAILED, 1))
	require.Equal(t, "InvalidSpec", state.GetReason())
	require.Contains(t, state.GetMessage(), "no-such")
	n.awaitState("silent", in(wire.SessionState_RUNNING, 1))
	for name, want := range map[string]codes.Code{
		"broken": codes.FailedPrecondition, "silent": codes.FailedPrecondition, "missing": codes.OK,
	} {
		stream, err := n.client.Run(t.Context())
		require.NoError(t, err)
		start := &wire.Start{Protocol: wire.Current(), Attach: &wire.Attach{Namespace: "shop", Name: name}}
		require.NoError(t, stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: start}}))
		first, err := stream.Recv()
		require.Equal(t, want, status.Code(err), "%s: %v", name, err)
		require.Equal(t, want == codes.OK, first.GetEnd() != nil, "an end without a header: there is no such session")
	}
}

// TestSessionGoesOnWhenItsSpecChanges changes a session again and again while a pod
// counts: nothing is recorded twice, and nothing is missing.
func TestSessionGoesOnWhenItsSpecChanges(t *testing.T) {
	n := newTestNode(t, Options{})
	defer n.endSessions()
	wanted := execs("shop", "carts")
	n.sessionsOf(wanted)
	n.awaitState("carts", in(wire.SessionState_RUNNING, 1))
	pod := n.container("shop", "cart-1", "web", nil)
	const total = 1500
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); /bin/true count-$i; done", total)
	counting := pod.command("/bin/sh", "-c", script)
	require.NoError(t, counting.Start())
	for i, change := range []func(*session.Session){
		func(s *session.Session) { s.Spec.Filter = "pid > 0" },
		func(s *session.Session) {
			s.Selector = &wire.Selector{Namespaces: []string{"shop"}, Pods: []string{"cart-1"}}
		},
		func(s *session.Session) { s.Spec.Params = map[string]string{"comm": "true", "uid": "0"} },
		func(s *session.Session) { s.Spec.Output.Metrics = &v1alpha1.MetricsOutput{} },
		func(s *session.Session) { s.Spec.Output.Metrics, s.Spec.Output.Stream = nil, &v1alpha1.StreamOutput{} },
	} {
		time.Sleep(100 * time.Millisecond)
		change(&wanted)
		wanted.Generation = int64(i + 2)
		n.sessionsOf(wanted)
		n.awaitState("carts", in(wire.SessionState_RUNNING, wanted.Generation))
	}
	require.NoError(t, counting.Wait())
	n.awaitState("carts", func(s *wire.SessionState) bool { return s.GetRecords() >= total })
	w := n.read(&wire.Attach{Namespace: "shop", Name: "carts"})
	var want []string
	for i := range total {
		want = append(want, fmt.Sprint("count-", i+1))
	}
	require.Equal(t, want, w.marks())
}

func TestSessionIsSuspendedAndEnds(t *testing.T) {
	n := newTestNode(t, Options{})
	defer n.endSessions()
	pod := n.container("shop", "cart-1", "web", nil)
	wanted := execs("shop", "carts")
	n.sessionsOf(wanted)
	n.awaitState("carts", in(wire.SessionState_RUNNING, 1))
	pod.run("/bin/true", "one")
	wanted.Spec.Suspend, wanted.Generation = true, 2
	n.sessionsOf(wanted)
	state := n.awaitState("carts", in(wire.SessionState_STOPPED, 2))
	require.Equal(t, "Suspended", state.GetReason())
	require.Empty(t, state.GetProgram())
	pod.run("/bin/true", "two")
	wanted.Spec.Suspend, wanted.Generation = false, 3
	wanted.Spec.TTL = &metav1.Duration{Duration: time.Since(wanted.Created) + 2*time.Second}
	n.sessionsOf(wanted)
	n.awaitState("carts", in(wire.SessionState_RUNNING, 3))
	pod.run("/bin/true", "three")
	state = n.awaitState("carts", in(wire.SessionState_STOPPED, 3))
	require.Equal(t, "Expired", state.GetReason())
	require.Equal(t, []string{"one", "three"}, n.read(&wire.Attach{Namespace: "shop", Name: "carts"}).marks())

	reader := n.watch(&wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "carts", Follow: true}})
	n.awaitState("carts", func(s *wire.SessionState) bool { return s.GetReaders() == 1 })
	n.sessionsOf()
	require.NoError(t, <-reader.done, "who reads a session is told of its end")
	require.Len(t, reader.all, 2)
	n.agent.sessions.close()
	require.Empty(t, n.agent.sessions.all())
	require.Zero(t, n.agent.ledger.programs())
}

func TestSessionsHaveLimits(t *testing.T) {
	n := newTestNode(t, Options{Sessions: SessionLimits{Sessions: 3, PerNamespace: 2, Rate: 20}})
	defer n.endSessions()
	var all []session.Session
	for i, name := range []string{"shop/a", "shop/b", "shop/c", "bank/d", "bank/e"} {
		namespace, name, _ := strings.Cut(name, "/")
		s := execs(namespace, name)
		s.Created = time.Now().Add(time.Duration(i-10) * time.Millisecond)
		all = append(all, s)
	}
	n.sessionsOf(all...)
	programs := map[string]bool{}
	for _, name := range []string{"a", "b", "d"} {
		programs[n.awaitState(name, in(wire.SessionState_RUNNING, 1)).GetProgram()] = true
	}
	require.Len(t, programs, 1, "they share what is loaded")
	require.Equal(t, 1, n.agent.ledger.programs())
	require.Contains(t, n.awaitState("c", in(wire.SessionState_FAILED, 1)).GetMessage(), "namespace shop has 2 sessions")
	require.Contains(t, n.awaitState("e", in(wire.SessionState_FAILED, 1)).GetMessage(), "the node runs 3 sessions")

	// Who is refused gets the place of one that is gone.
	n.sessionsOf(all[1:]...)
	n.awaitState("c", in(wire.SessionState_RUNNING, 1))

	pod := n.container("shop", "cart-1", "web", nil)
	pod.run("/bin/sh", "-c", "i=0; while [ $i -lt 100 ]; do i=$((i+1)); /bin/true $i; done")
	state := n.awaitState("b", func(s *wire.SessionState) bool { return s.GetLoss().GetThrottled() > 0 })
	other := n.awaitState("c", func(s *wire.SessionState) bool { return s.GetLoss().GetThrottled() > 0 })
	require.Less(t, state.GetRecords()+other.GetRecords(), uint64(150), "they share the namespace's rate")
	require.Eventually(t, func() bool {
		w := n.read(&wire.Attach{Namespace: "shop", Name: "b"})
		return slices.ContainsFunc(w.notices, func(text string) bool { return strings.Contains(text, "session b is throttled") })
	}, 5*time.Second, 100*time.Millisecond)
}

// TestSessionsAreReported reads the reports as the controller does.
// TestBucketsOfGoneNamespacesAreForgotten once they are full again.
func TestBucketsOfGoneNamespacesAreForgotten(t *testing.T) {
	s := newSessions(New(Options{Gadgets: catalog(t)}), SessionLimits{Rate: 100})
	for _, namespace := range []string{"spent", "idle", "there"} {
		s.buckets(namespace)
	}
	drainBucket(s.rates["spent"])
	names := func() []string { return slices.Sorted(maps.Keys(s.rates)) }
	now := time.Now()
	s.forget(map[string]bool{"there": true}, now)
	require.Equal(t, []string{"spent", "there"}, names())
	s.forget(map[string]bool{"there": true}, now.Add(2*time.Second))
	require.Equal(t, []string{"there"}, names())
}

func TestSessionsAreReported(t *testing.T) {
	n := newTestNode(t, Options{})
	defer n.endSessions()
	n.sessionsOf(execs("shop", "a"))
	stream, err := n.client.Sessions(t.Context(), &wire.SessionsRequest{Protocol: wire.Current()})
	require.NoError(t, err)
	known := map[string]*wire.SessionState{}
	next := func(done func() bool) {
		t.Helper()
		for !done() {
			report, err := stream.Recv()
			require.NoError(t, err)
			for _, s := range report.GetSessions() {
				known[s.GetUid()] = s
			}
			for _, uid := range report.GetGone() {
				delete(known, uid)
			}
		}
	}
	next(func() bool { return known["uid-a"].GetPhase() == wire.SessionState_RUNNING })
	begin := time.Now()
	n.sessionsOf(execs("shop", "b"))
	next(func() bool { return known["uid-a"] == nil && known["uid-b"].GetPhase() == wire.SessionState_RUNNING })
	require.Less(t, time.Since(begin), 4*time.Second)
}

// TestOwnedSessionEndsWithItsClient ends an interactive session by stopping the run that
// reads it: all that was recorded before arrives.
func TestOwnedSessionEndsWithItsClient(t *testing.T) {
	n := newTestNode(t, Options{})
	defer n.endSessions()
	wanted := execs("shop", "run")
	wanted.Interactive = true
	n.sessionsOf(wanted)
	owner := n.watch(&wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "run", Follow: true, Owner: true}})
	pod := n.container("shop", "cart-1", "web", nil)
	for i := range 50 {
		pod.run("/bin/true", fmt.Sprint(i))
	}
	require.Len(t, owner.stop(), 50)
	require.Equal(t, "Ended", n.awaitState("run", in(wire.SessionState_STOPPED, 1)).GetReason())

	table := execs("shop", "table")
	table.Interactive, table.Spec.Gadget.Name, table.Spec.Params = true, "top_syscall", nil
	table.Spec.Interval = &metav1.Duration{Duration: time.Hour}
	once := execs("shop", "once")
	once.Spec.Gadget.Name, once.Spec.Params = "snapshot_process", nil
	n.sessionsOf(table, once)
	owner = n.watch(&wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "table", Follow: true, Owner: true}})
	pod.run("/bin/true")
	require.NotEmpty(t, owner.stop(), "the last interval is read")

	pod.run("/bin/sh", "-c", "true")
	require.Equal(t, "Done", n.awaitState("once", in(wire.SessionState_STOPPED, 1)).GetReason())
	n.read(&wire.Attach{Namespace: "shop", Name: "once", Follow: true})
}
