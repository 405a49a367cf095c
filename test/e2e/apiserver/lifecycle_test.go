// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// TestLifecycle: made, running, edited, suspended, resumed, failing, mended, deleted.
func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	agents := w.agents("node1", "node2")
	w.controller(nil)
	w.applyTrace(w.trace("warm"))
	w.awaitPhase("warm", v1alpha1.SessionRunning)

	began := time.Now()
	w.applyTrace(w.trace("a"))
	s := w.awaitPhase("a", v1alpha1.SessionRunning)
	require.Less(t, time.Since(began), 2*time.Second, "from apply to Running")
	require.Equal(t, v1alpha1.NodeCounts{Summary: "2/2", Desired: 2, Running: 2}, s.Status.Nodes)
	require.Contains(t, s.Finalizers, v1alpha1.Finalizer)
	require.EqualValues(t, 1, s.Status.ObservedGeneration)
	require.NotNil(t, s.Status.StartTime)
	require.Equal(t, "True Valid: the gadget takes the spec", condition(s, v1alpha1.ConditionAccepted))
	require.Equal(t, "True Runs: it runs on all 2 nodes", condition(s, v1alpha1.ConditionRunning))
	require.Equal(t, "False AsWanted: nothing is wrong", condition(s, v1alpha1.ConditionDegraded))
	require.Equal(t, "False NotOver: it goes on", condition(s, v1alpha1.ConditionCompleted))
	w.await("a", "events", func(s *v1alpha1.TraceSession) bool { return s.Status.Events > 100 && s.Status.Lost > 10 })

	w.applyTrace(w.trace("a", map[string]any{"filter": "uid == 0"}))
	s = w.await("a", "the edit", func(s *v1alpha1.TraceSession) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionRunning)
		return s.Status.ObservedGeneration == 2 && c.ObservedGeneration == 2 && c.Reason == "Runs"
	})
	require.Equal(t, v1alpha1.SessionRunning, s.Status.Phase)

	w.applyTrace(w.trace("a", map[string]any{"suspend": true}))
	s = w.await("a", "suspension", func(s *v1alpha1.TraceSession) bool {
		return s.Status.Phase == v1alpha1.SessionSuspended && s.Status.Nodes.Running == 0
	})
	require.Equal(t, "False Suspended: its spec says so", condition(s, v1alpha1.ConditionRunning))
	events := s.Status.Events
	w.applyTrace(w.trace("a"))
	s = w.awaitPhase("a", v1alpha1.SessionRunning)
	require.GreaterOrEqual(t, s.Status.Events, events)
	require.Zero(t, s.Status.Gaps, "it was stopped on purpose")

	agents[1].with(func(a *agent) { a.fails["a"] = "the verifier \x1b[31mrefuses\x1b[0m it\nat line 3" })
	s = w.awaitPhase("a", v1alpha1.SessionDegraded)
	require.Equal(t, []v1alpha1.NodeFailure{{Node: "node2", Reason: "LoadFailed", Message: "the verifier ?[31mrefuses?[0m it at line 3"}}, s.Status.Failures)
	require.Equal(t, v1alpha1.NodeCounts{Summary: "1/2", Desired: 2, Running: 1, Failed: 1}, s.Status.Nodes)
	agents[0].with(func(a *agent) { a.fails["a"] = "no" })
	s = w.awaitPhase("a", v1alpha1.SessionFailed)
	require.Equal(t, "False NoneRuns: it can't run on all 2 nodes", condition(s, v1alpha1.ConditionRunning))
	for _, a := range agents {
		a.with(func(a *agent) { a.fails = map[string]string{} })
	}
	s = w.awaitPhase("a", v1alpha1.SessionRunning)
	require.Empty(t, s.Status.Failures)
	require.EqualValues(t, 2, s.Status.Gaps, "both were interrupted")

	w.delete("a")
	require.Less(t, w.awaitGone("a"), 5*time.Second)
	w.writes.requirePaced(t)

	list, err := w.client.Resource(eventsResource).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	reasons := map[string]bool{}
	for _, e := range list.Items {
		reasons[e.Object["reason"].(string)] = true
	}
	require.Contains(t, reasons, "Running")
	require.Contains(t, reasons, "Degraded")
}

// TestTTL: it is over by itself, and stays to be read. A longer life revives it.
func TestTTL(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.controller(nil)
	applied := w.applyTrace(w.trace("a", map[string]any{"ttl": "5s"}))
	s := w.awaitPhase("a", v1alpha1.SessionRunning)
	expiry := applied.GetCreationTimestamp().Add(5 * time.Second)
	require.True(t, s.Status.ExpiresAt.Time.Equal(expiry), s.Status.ExpiresAt)
	s = w.await("a", "its end", func(s *v1alpha1.TraceSession) bool {
		return s.Status.Phase == v1alpha1.SessionCompleted && s.Status.Nodes.Running == 0
	})
	require.WithinDuration(t, expiry, time.Now(), 4*time.Second)
	require.True(t, s.Status.CompletionTime.Time.Equal(expiry))
	require.Equal(t, "True Expired: its time to live is over", condition(s, v1alpha1.ConditionCompleted))
	require.Positive(t, s.Status.Events)
	time.Sleep(time.Second)
	require.NotNil(t, w.get("a"))
	w.applyTrace(w.trace("a", map[string]any{"ttl": "1h"}))
	s = w.awaitPhase("a", v1alpha1.SessionRunning)
	require.Nil(t, s.Status.CompletionTime)
}

// TestRefusals: what the gadget doesn't take is said with what it does.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.controller(nil)
	w.applyTrace(w.trace("unknown", map[string]any{"gadget": map[string]any{"name": "trace_nothing"}}))
	w.applyTrace(w.trace("params", map[string]any{"params": map[string]any{"failed": "perhaps", "nope": "1"}, "filter": "nope"}))
	s := w.awaitPhase("unknown", v1alpha1.SessionFailed)
	require.Contains(t, condition(s, v1alpha1.ConditionAccepted), "False UnknownGadget")
	require.Contains(t, condition(s, v1alpha1.ConditionAccepted), "known are: profile runqlat")
	s = w.awaitPhase("params", v1alpha1.SessionFailed)
	accepted := condition(s, v1alpha1.ConditionAccepted)
	for _, want := range []string{"False InvalidSpec", `spec.params[failed]: is "perhaps", want true or false`, "no such parameter, it has: args-limit", `unknown field "nope"`} {
		require.Contains(t, accepted, want)
	}
	require.Equal(t, "False NotAccepted: its spec isn't accepted", condition(s, v1alpha1.ConditionRunning))
	w.applyTrace(w.trace("params", map[string]any{"params": map[string]any{"failed": "true"}}))
	s = w.awaitPhase("params", v1alpha1.SessionRunning)
	require.Contains(t, condition(s, v1alpha1.ConditionAccepted), "True Valid")
}

// TestNobodyHidesOthers: objects that only the schema takes are refused one by one.
func TestNobodyHidesOthers(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.controller(nil)
	for name, spec := range map[string]map[string]any{
		"duration": {"ttl": "1 day"}, "quantity": {"bufferSize": "1e1.5"}, "overflow": {"ttl": "9999999h"}, "big": {"bufferSize": "99999999999E"},
	} {
		_, err := w.client.Resource(sessions).Namespace(w.namespace).Create(t.Context(), w.trace(name, spec), metav1.CreateOptions{})
		if err != nil {
			require.True(t, apierrors.IsInvalid(err), "%s: %v", name, err)
			continue
		}
		u := w.await(name, "a refusal", func(*v1alpha1.TraceSession) bool { return true })
		t.Logf("the schema takes %s: %+v", name, u.Spec)
	}
	w.applyTrace(w.trace("good"))
	w.awaitPhase("good", v1alpha1.SessionRunning)
}

// TestDeletionWithDeadNodes: neither nodes that are dead nor agents that don't react
// nor missing ones keep a session.
func TestDeletionWithDeadNodes(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(w *world, a *agent)
		most time.Duration
	}{
		{"dead", func(_ *world, a *agent) { a.kill() }, 5 * time.Second},
		{"stuck", func(_ *world, a *agent) { a.with(func(a *agent) { a.stuck = true }) }, 13 * time.Second},
		{"gone", func(w *world, a *agent) { w.fleet.set(a.node, nil) }, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			agents := w.agents("node1", "node2")
			w.controller(nil)
			w.applyTrace(w.trace("a"))
			w.awaitPhase("a", v1alpha1.SessionRunning)
			test.harm(w, agents[1])
			w.delete("a")
			require.Less(t, w.awaitGone("a"), test.most)
		})
	}
}

// TestAgentThatIsKilled: the gap is stated, and contains the real one; counts go on.
func TestAgentThatIsKilled(t *testing.T) {
	w := newWorld(t)
	agents := w.agents("node1", "node2")
	w.controller(nil)
	w.applyTrace(w.trace("a"))
	before := w.await("a", "events", func(s *v1alpha1.TraceSession) bool { return s.Status.Events > 100 })
	killed := time.Now()
	agents[0].kill()
	s := w.awaitPhase("a", v1alpha1.SessionDegraded)
	require.Equal(t, "node1", s.Status.Failures[0].Node)
	require.Equal(t, "AgentUnavailable", s.Status.Failures[0].Reason)
	agents[0].revive()
	s = w.await("a", "a gap", func(s *v1alpha1.TraceSession) bool {
		return s.Status.Gaps == 1 && s.Status.Phase == v1alpha1.SessionRunning
	})
	revived := time.Now()
	require.Equal(t, "node1", s.Status.LastGap.Node)
	require.False(t, s.Status.LastGap.From.After(killed))
	require.WithinDuration(t, killed, s.Status.LastGap.From.Time, 3*time.Second)
	require.True(t, s.Status.LastGap.To.After(killed))
	require.False(t, s.Status.LastGap.To.After(revived.Add(time.Second)))
	require.GreaterOrEqual(t, s.Status.Events, before.Status.Events)
}

// TestNodesComeAndGo: those that have an agent count.
func TestNodesComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.controller(nil)
	w.applyTrace(w.trace("a"))
	w.awaitPhase("a", v1alpha1.SessionPending)
	s := w.await("a", "a reason", func(s *v1alpha1.TraceSession) bool { return condition(s, v1alpha1.ConditionRunning) != "" })
	require.Equal(t, "False NoNodes: no node that it is for has an agent", condition(s, v1alpha1.ConditionRunning))
	w.agents("node1", "node2")
	summary := func(want string) func(*v1alpha1.TraceSession) bool {
		return func(s *v1alpha1.TraceSession) bool { return s.Status.Nodes.Summary == want }
	}
	w.await("a", "two nodes", summary("2/2"))
	w.fleet.set("node2", nil)
	s = w.await("a", "one node", summary("1/1"))
	require.Equal(t, v1alpha1.SessionRunning, s.Status.Phase)
	w.delete("a")
	w.awaitGone("a")
}

// TestInteractive: sessions that nobody reads are deleted, others aren't.
func TestInteractive(t *testing.T) {
	w := newWorld(t)
	agents := w.agents("node1")
	agents[0].with(func(a *agent) { a.readers = 1 })
	w.controller(nil)
	interactive := w.trace("a")
	interactive.SetLabels(map[string]string{v1alpha1.LabelInteractive: "true"})
	w.applyTrace(interactive)
	w.applyTrace(w.trace("b"))
	w.awaitPhase("a", v1alpha1.SessionRunning)
	time.Sleep(3 * time.Second)
	require.NotNil(t, w.get("a"), "it is read")
	agents[0].with(func(a *agent) { a.readers = 0 })
	left := time.Now()
	eventually(t, 40*time.Second, func() bool { return w.get("a") == nil })
	require.WithinRange(t, time.Now(), left.Add(5*time.Second), left.Add(12*time.Second))
	require.NotNil(t, w.get("b"))
}
