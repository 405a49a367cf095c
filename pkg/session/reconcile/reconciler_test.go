// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/wire"
)

var keyOfS = types.NamespacedName{Namespace: "shop", Name: "s"}

// object is the session "s", made now.
func object(change ...func(*v1alpha1.TraceSession)) *v1alpha1.TraceSession {
	o := &v1alpha1.TraceSession{}
	o.Namespace, o.Name, o.UID, o.Generation = "shop", "s", "s", 1
	o.CreationTimestamp = metav1.Now()
	o.Spec.Gadget.Name = "trace_exec"
	for _, c := range change {
		c(o)
	}
	return o
}

// inBubble runs a test with its own clock, and a reconciler that works on "s" all the
// time, with one agent.
func inBubble(t *testing.T, o func() *v1alpha1.TraceSession, test func(t *testing.T, s *server, b *board, agent *seat)) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newServer(), newBoard()
		s.put(t, o())
		b.start(time.Now())
		agent := b.join("node1", time.Now())
		b.report(agent, time.Now(), says())
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		r := newReconciler(t, s, b)
		group.Go(func() { work(ctx, t, r, []types.NamespacedName{keyOfS}) })
		time.Sleep(2 * time.Second)
		test(t, s, b, agent)
		cancel()
		group.Wait()
	})
}

// there says whether the object is there.
func (s *server) there() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[keyOfS] != nil
}

// edit changes the object as a user does; the controller would be told by the API server.
func (s *server) edit(b *board, change func(*unstructured.Unstructured)) {
	s.mu.Lock()
	change(s.objects[keyOfS])
	s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.markAll()
}

func deletes(u *unstructured.Unstructured) {
	now := metav1.Now()
	u.SetDeletionTimestamp(&now)
	u.SetGeneration(u.GetGeneration() + 1)
}

// TestEnd: a deleted session goes when no agent runs it, or after ten seconds.
func TestEnd(t *testing.T) {
	for _, test := range []struct {
		name string
		meet func(b *board, agent *seat)
		// after is when it may be gone, at the earliest and at the latest.
		least, most time.Duration
	}{
		{"the agent ends it", func(b *board, agent *seat) {
			time.Sleep(3 * time.Second)
			b.report(agent, time.Now(), says(stopped("s")))
		}, 3 * time.Second, 4 * time.Second},
		{"the agent knows nothing of it any more", func(b *board, agent *seat) {
			time.Sleep(3 * time.Second)
			b.report(agent, time.Now(), &wire.SessionsReport{Gone: []string{"s"}})
		}, 3 * time.Second, 4 * time.Second},
		{"the agent doesn't react", func(*board, *seat) {}, 10 * time.Second, 11 * time.Second},
		{"the agent dies", func(b *board, agent *seat) {
			time.Sleep(3 * time.Second)
			b.broken(agent, time.Now(), "X", "y")
		}, 3 * time.Second, 4 * time.Second},
		{"the node goes", func(b *board, agent *seat) {
			time.Sleep(3 * time.Second)
			b.leave(agent, time.Now())
		}, 3 * time.Second, 4 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func() *v1alpha1.TraceSession { return object() }, func(t *testing.T, s *server, b *board, agent *seat) {
				b.report(agent, time.Now(), says(runs("s", time.Now(), 1, 0)))
				time.Sleep(2 * time.Second)
				require.Equal(t, v1alpha1.SessionRunning, s.status(t, keyOfS).Phase)
				s.mu.Lock()
				require.Equal(t, []string{v1alpha1.Finalizer}, s.objects[keyOfS].GetFinalizers())
				s.mu.Unlock()
				deleted := time.Now()
				s.edit(b, deletes)
				go test.meet(b, agent)
				for s.there() {
					time.Sleep(10 * time.Millisecond)
				}
				require.GreaterOrEqual(t, time.Since(deleted), test.least)
				require.LessOrEqual(t, time.Since(deleted), test.most)
			})
		})
	}
}

// TestIdleSessions: interactive ones that nobody reads are deleted, soon after they were
// left, and half a minute after they were made or an agent went that may have readers.
func TestIdleSessions(t *testing.T) {
	interactive := func(o *v1alpha1.TraceSession) { o.Labels = map[string]string{v1alpha1.LabelInteractive: "true"} }
	reads := func(n uint32) *wire.SessionState {
		state := runs("s", time.Now(), 1, 0)
		state.Readers = n
		return state
	}
	for _, test := range []struct {
		name string
		made func(*v1alpha1.TraceSession)
		meet func(b *board, agent *seat)
		// at is when it is deleted, since it was made; 0 for never.
		at time.Duration
	}{
		{"never read", interactive, func(*board, *seat) {}, 30 * time.Second},
		{"read", interactive, func(b *board, agent *seat) { b.report(agent, time.Now(), says(reads(1))) }, 0},
		{"read for a while", interactive, func(b *board, agent *seat) {
			b.report(agent, time.Now(), says(reads(1)))
			time.Sleep(time.Minute)
			b.report(agent, time.Now(), says(reads(0)))
		}, 68 * time.Second},
		{"its reader's node is gone", interactive, func(b *board, agent *seat) {
			b.report(agent, time.Now(), says(reads(1)))
			time.Sleep(time.Minute)
			b.leave(agent, time.Now())
		}, 92 * time.Second},
		{"not interactive", func(*v1alpha1.TraceSession) {}, func(*board, *seat) {}, 0},
		{"another label", func(o *v1alpha1.TraceSession) { o.Labels = map[string]string{v1alpha1.LabelInteractive: "false"} }, func(*board, *seat) {}, 0},
		{"made long ago, seen just now", func(o *v1alpha1.TraceSession) {
			interactive(o)
			o.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Hour))
		}, func(*board, *seat) {}, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func() *v1alpha1.TraceSession { return object(test.made) }, func(t *testing.T, s *server, b *board, agent *seat) {
				made := time.Now().Add(-2 * time.Second)
				go test.meet(b, agent)
				isDeleted := func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					return len(s.deleted) > 0
				}
				for !isDeleted() && time.Since(made) < 5*time.Minute {
					time.Sleep(10 * time.Millisecond)
				}
				if test.at == 0 {
					require.False(t, isDeleted())
					return
				}
				require.WithinDuration(t, made.Add(test.at), time.Now(), time.Second)
			})
		})
	}
}

// TestExpiry: the controller notices by itself, and goes on to count what comes late.
func TestExpiry(t *testing.T) {
	mortal := func(o *v1alpha1.TraceSession) { o.Spec.TTL = &metav1.Duration{Duration: time.Minute} }
	inBubble(t, func() *v1alpha1.TraceSession { return object(mortal) }, func(t *testing.T, s *server, b *board, agent *seat) {
		state := runs("s", time.Now(), 1, 0)
		b.report(agent, time.Now(), says(state))
		time.Sleep(57 * time.Second)
		require.Equal(t, v1alpha1.SessionRunning, s.status(t, keyOfS).Phase)
		time.Sleep(2 * time.Second)
		require.Equal(t, v1alpha1.SessionCompleted, s.status(t, keyOfS).Phase)
		late := runs("s", time.Unix(0, state.GetBegan()), 9, 0)
		late.Phase = wire.SessionState_STOPPED
		b.report(agent, time.Now(), says(late))
		time.Sleep(10 * time.Second)
		status := s.status(t, keyOfS)
		require.EqualValues(t, 9, status.Events)
		require.Zero(t, status.Nodes.Running)
		writes := len(s.writes[keyOfS])
		time.Sleep(time.Hour)
		require.Len(t, s.writes[keyOfS], writes, "nothing happens any more")
	})
}

// TestObjectsThatCantBeRead are refused, not retried.
func TestObjectsThatCantBeRead(t *testing.T) {
	inBubble(t, func() *v1alpha1.TraceSession { return object() }, func(t *testing.T, s *server, b *board, _ *seat) {
		s.edit(b, func(u *unstructured.Unstructured) {
			u.SetGeneration(2)
			require.NoError(t, unstructured.SetNestedField(u.Object, "1 day", "spec", "ttl"))
		})
		time.Sleep(2 * time.Second)
		status := s.status(t, keyOfS)
		require.Equal(t, v1alpha1.SessionFailed, status.Phase)
		require.EqualValues(t, 2, status.ObservedGeneration)
		require.Contains(t, status.Conditions[0].Message, "unknown unit")
	})
}

// TestAnotherOfTheName is another session, with counts of its own.
func TestAnotherOfTheName(t *testing.T) {
	inBubble(t, func() *v1alpha1.TraceSession { return object() }, func(t *testing.T, s *server, b *board, agent *seat) {
		b.report(agent, time.Now(), says(runs("s", time.Now(), 100, 0)))
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 100, s.status(t, keyOfS).Events)
		s.put(t, object(func(o *v1alpha1.TraceSession) { o.UID = "s2" }))
		another := runs("s2", time.Now(), 3, 0)
		another.Name = "s"
		b.report(agent, time.Now(), says(another))
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 3, s.status(t, keyOfS).Events)
	})
}

// TestFailover: until all agents have reported, the last controller's word stands.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newServer(), newBoard()
		old := v1alpha1.SessionStatus{Phase: v1alpha1.SessionRunning, ObservedGeneration: 1, Events: 1000, Nodes: v1alpha1.NodeCounts{Summary: "2/2", Desired: 2, Running: 2}}
		s.put(t, object(func(o *v1alpha1.TraceSession) { o.Status = old }))
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		r := newReconciler(t, s, b)
		group.Go(func() { work(ctx, t, r, []types.NamespacedName{keyOfS}) })
		time.Sleep(time.Minute)
		require.Empty(t, s.writes, "nobody listens yet")
		began := time.Now().Add(-time.Hour)
		b.start(time.Now())
		seats := []*seat{b.join("node1", time.Now()), b.join("node2", time.Now())}
		b.report(seats[0], time.Now(), says(runs("s", began, 600, 0)))
		time.Sleep(2 * time.Second)
		require.Empty(t, s.writes)
		b.report(seats[1], time.Now(), says(runs("s", began, 500, 0)))
		time.Sleep(6 * time.Second)
		status := s.status(t, keyOfS)
		require.Equal(t, "2/2", status.Nodes.Summary)
		require.EqualValues(t, 1100, status.Events)
		cancel()
		group.Wait()
	})
}

// TestReconcileNothing: an object that is gone is forgotten.
func TestReconcileNothing(t *testing.T) {
	s, b := newServer(), newBoard()
	r := newReconciler(t, s, b)
	s.put(t, object())
	request := reconcile.Request{NamespacedName: keyOfS}
	_, err := r.Reconcile(t.Context(), request)
	require.NoError(t, err)
	require.Len(t, r.memories, 1)
	delete(s.objects, keyOfS)
	result, err := r.Reconcile(t.Context(), request)
	require.NoError(t, err)
	require.Zero(t, result)
	require.Empty(t, r.memories)
	require.False(t, b.entries["s"].known)
	require.Equal(t, session.Kind, r.kind)
}
