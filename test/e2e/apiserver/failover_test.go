// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/session/reconcile"
)

// outage cuts a controller off from the API server.
type outage struct{ is atomic.Bool }

func (o *outage) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if o.is.Load() {
			return nil, errors.New("no route to host")
		}
		return next.RoundTrip(request)
	})
}

// TestFailover: another controller takes over, from one that leaves and from one that is
// cut off, and counts go on. The nodes are said to run the session all the time.
func TestFailover(t *testing.T) {
	for _, test := range []struct {
		name string
		most time.Duration
		cut  bool
	}{{"leaves", 8 * time.Second, false}, {"is cut off", 15 * time.Second, true}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.agents("node1", "node2")
			var cut outage
			stop := w.controller(func(o *reconcile.Options) {
				o.Config = rest.CopyConfig(o.Config)
				o.Config.Wrap(cut.wrap)
			})
			w.applyTrace(w.trace("a"))
			before := w.await("a", "events", func(s *v1alpha1.TraceSession) bool { return s.Status.Events > 100 })
			w.controller(nil)
			time.Sleep(time.Second)
			if cut.is.Store(test.cut); !test.cut {
				stop()
			}
			began, events := time.Now(), before.Status.Events
			w.await("a", "the other controller", func(s *v1alpha1.TraceSession) bool {
				require.GreaterOrEqual(t, s.Status.Events, events)
				require.Equal(t, "2/2", s.Status.Nodes.Summary)
				require.Equal(t, v1alpha1.SessionRunning, s.Status.Phase)
				events = s.Status.Events
				// The first one's last words.
				return s.Status.Events > before.Status.Events+100
			})
			require.Less(t, time.Since(began), test.most)
			require.Zero(t, w.get("a").Status.Gaps)
			// Who was cut off comes back, and does what it did.
			cut.is.Store(false)
			time.Sleep(2 * time.Second)
			w.applyTrace(w.trace("b"))
			w.awaitPhase("b", v1alpha1.SessionRunning)
		})
	}
}

// TestManyAgents: what a thousand agents say of ten sessions is in their statuses within
// ten seconds, each of which is written once a second at most.
func TestManyAgents(t *testing.T) {
	const agents, many = 1000, 10
	w := newWorld(t)
	var all []*agent
	for i := range agents {
		a := newAgent(fmt.Sprintf("node%04d", i))
		a.pace = time.Second
		all = append(all, a)
		w.fleet.set(a.node, a)
	}
	w.controller(nil)
	w.applyTrace(w.trace("warm"))
	w.await("warm", "the controller", func(s *v1alpha1.TraceSession) bool { return s.Status.Nodes.Desired == agents })
	began := time.Now()
	var wanted []session.Session
	for i := range many {
		applied := w.applyTrace(w.trace(fmt.Sprintf("s%d", i)))
		wanted = append(wanted, session.Session{UID: applied.GetUID(), Namespace: w.namespace, Name: applied.GetName(), Generation: 1})
	}
	for _, a := range all {
		a.set(wanted)
	}
	for i := range many {
		w.await(fmt.Sprintf("s%d", i), "all nodes", func(s *v1alpha1.TraceSession) bool { return s.Status.Nodes.Running == agents })
	}
	require.Less(t, time.Since(began), 10*time.Second)
	time.Sleep(15 * time.Second)
	for i := range many {
		require.Positive(t, w.get(fmt.Sprintf("s%d", i)).Status.Events)
	}
	w.writes.requirePaced(t)
	w.writes.mu.Lock()
	defer w.writes.mu.Unlock()
	path := fmt.Sprintf("/apis/nodegadget.dev/v1alpha1/namespaces/%s/tracesessions/s0/status", w.namespace)
	require.LessOrEqual(t, len(w.writes.times[path]), 8, "in 15 seconds and those before")
}

// TestNoLeaseNeeded: one controller alone may do without.
func TestNoLeaseNeeded(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.controller(func(o *reconcile.Options) { o.LeaderElect = false })
	w.applyTrace(w.trace("a"))
	w.awaitPhase("a", v1alpha1.SessionRunning)
}

// TestNothingIsLeft of controllers that have ended.
func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.applyTrace(w.trace("a"))
	time.Sleep(time.Second) // until the agent's connections are there
	before := goleak.IgnoreCurrent()
	for range 3 {
		stop := w.controller(nil)
		w.awaitPhase("a", v1alpha1.SessionRunning)
		time.Sleep(time.Second)
		stop()
	}
	// Connections are the process's, and kept for the next.
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"))
}

// TestTamperedStatus: what somebody else wrote into it doesn't stop the controller.
func TestTamperedStatus(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.applyTrace(w.trace("a"))
	_, err := w.client.Resource(sessions).Namespace(w.namespace).Patch(t.Context(), "a", types.MergePatchType,
		[]byte(`{"status":{"phase":"Completed","events":9223372036854775807,"lost":5}}`), metav1.PatchOptions{}, "status")
	require.NoError(t, err)
	w.controller(nil)
	s := w.awaitPhase("a", v1alpha1.SessionRunning)
	require.GreaterOrEqual(t, s.Status.Lost, int64(5))
	require.Positive(t, s.Status.Events)
}
