// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"nodegadget.dev/pkg/api/apitest"
	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The paths of what is followed.
const (
	namespaced  = "/apis/nodegadget.dev/v1alpha1/tracesessions"
	clusterWide = "/apis/nodegadget.dev/v1alpha1/clustertracesessions"
)

const patience = 20 * time.Second

// object is one as it is sent.
type object = map[string]any

// trace is a TraceSession; its UID is "uid-" and its name.
func trace(name string, generation int, spec object) object {
	return object{
		"spec": spec,
		"metadata": object{
			"namespace": "shop", "name": name, "uid": "uid-" + name, "generation": generation,
			"annotations": object{"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("x", 1000)},
		},
	}
}

func clusterTrace(name string, generation int, spec object) object {
	o := trace(name, generation, spec)
	delete(o["metadata"].(object), "namespace")
	return o
}

func runs(gadget string) object { return object{"gadget": object{"name": gadget}} }

// follower is who is told.
type follower struct {
	mu   sync.Mutex
	last []session.Session
	sets int
	log  logText
}

// logText may be read while it is written.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (f *follower) set(sessions []session.Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.sets = sessions, f.sets+1
}

// names are those of the last list, with generations.
func (f *follower) names() (names string, sets int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, s := range f.last {
		all = append(all, fmt.Sprintf("%s@%d", s.Name, s.Generation))
	}
	return strings.Join(all, " "), f.sets
}

func (f *follower) await(t *testing.T, want string) {
	t.Helper()
	require.Eventually(t, func() bool { got, sets := f.names(); return sets > 0 && got == want }, patience, time.Millisecond, "waiting for %q", want)
}

// followUntilEnd runs until the test ends.
func followUntilEnd(t *testing.T, s *apitest.Server) *follower {
	t.Helper()
	f := &follower{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{
			Config: s.Config(), Node: "node1", Set: f.set, MaxBackoff: 20 * time.Millisecond, Settle: 5 * time.Millisecond,
			Log: slog.New(slog.NewTextHandler(&f.log, nil)),
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		s.Stop()
	})
	return f
}

// newServer knows both kinds.
func newServer(t *testing.T, streams bool) *apitest.Server {
	return apitest.New(t, apitest.Options{Kinds: map[string]string{namespaced: session.Kind, clusterWide: session.ClusterKind}, Streams: streams})
}

func everyServer(t *testing.T, test func(*testing.T, *apitest.Server)) {
	for _, streams := range []bool{false, true} {
		t.Run(fmt.Sprintf("streams %v", streams), func(t *testing.T) { test(t, newServer(t, streams)) })
	}
}

// TestRun: what there is, what is new, what changes, what goes.
func TestRun(t *testing.T) {
	everyServer(t, func(t *testing.T, s *apitest.Server) {
		s.Put(namespaced, trace("a", 1, runs("trace_exec")))
		here, elsewhere := runs("trace_open"), runs("trace_open")
		here["selector"] = object{"nodeNames": []any{"node1"}}
		elsewhere["selector"] = object{"nodeNames": []any{"node2"}}
		s.Put(clusterWide, clusterTrace("b", 1, here))
		s.Put(clusterWide, clusterTrace("c", 1, elsewhere))
		f := followUntilEnd(t, s)
		f.await(t, "a@1 b@1")
		f.mu.Lock()
		require.Equal(t, "trace_exec", f.last[0].Spec.Gadget.Name)
		require.Equal(t, []string{"shop"}, f.last[0].Selector.GetNamespaces())
		require.Empty(t, f.last[1].Namespace)
		f.mu.Unlock()

		s.Put(namespaced, trace("a", 2, runs("trace_exec")))
		f.await(t, "a@2 b@1")
		s.Put(clusterWide, clusterTrace("c", 2, here))
		f.await(t, "a@2 b@1 c@2")
		s.Put(clusterWide, clusterTrace("b", 2, elsewhere))
		f.await(t, "a@2 c@2")
		deleting := trace("a", 3, runs("trace_exec"))
		deleting["metadata"].(object)["deletionTimestamp"] = "2026-11-03T12:00:00Z"
		s.Put(namespaced, deleting)
		f.await(t, "a@3 c@2")
		f.mu.Lock()
		require.True(t, f.last[0].Deleting)
		f.mu.Unlock()
		s.Remove(namespaced, "shop", "a")
		f.await(t, "c@2")
		s.Remove(clusterWide, "", "c")
		f.await(t, "")
	})
}

// TestStatusesAreNoNews: they change all the time.
func TestStatusesAreNoNews(t *testing.T) {
	s := newServer(t, true)
	s.Put(namespaced, trace("a", 1, runs("trace_exec")))
	f := followUntilEnd(t, s)
	f.await(t, "a@1")
	_, before := f.names()
	for i := range 20 {
		o := trace("a", 1, runs("trace_exec"))
		o["status"] = object{"events": i}
		s.Put(namespaced, o)
	}
	s.Put(namespaced, trace("b", 1, runs("trace_exec")))
	f.await(t, "a@1 b@1")
	_, after := f.names()
	require.Equal(t, before+1, after)
}

// TestLabelsAreNews where they mean something.
func TestLabelsAreNews(t *testing.T) {
	s := newServer(t, true)
	o := trace("a", 1, runs("trace_exec"))
	o["metadata"].(object)["labels"] = object{v1alpha1.LabelInteractive: "true"}
	s.Put(namespaced, o)
	f := followUntilEnd(t, s)
	f.await(t, "a@1")
	s.Put(namespaced, trace("a", 1, runs("trace_exec")))
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !f.last[0].Interactive
	}, patience, time.Millisecond)
}

// TestChangesComeTogether: a thousand at once aren't told one by one.
func TestChangesComeTogether(t *testing.T) {
	s := newServer(t, true)
	f := followUntilEnd(t, s)
	f.await(t, "")
	for i := range 1000 {
		s.Put(namespaced, trace(fmt.Sprintf("s%d", i), 1, runs("trace_exec")))
	}
	require.Eventually(t, func() bool { names, _ := f.names(); return strings.Count(names, "@") == 1000 }, patience, time.Millisecond)
	_, sets := f.names()
	require.Less(t, sets, 200)
}

// TestObjectsThatCantBeRead don't hide others.
func TestObjectsThatCantBeRead(t *testing.T) {
	everyServer(t, func(t *testing.T, s *apitest.Server) {
		bad := runs("trace_exec")
		bad["ttl"] = "1 day"
		s.Put(namespaced, trace("bad", 1, bad))
		s.Put(namespaced, trace("good", 1, runs("trace_exec")))
		f := followUntilEnd(t, s)
		f.await(t, "good@1")
		s.Put(namespaced, trace("good", 2, bad))
		f.await(t, "")
		s.Put(namespaced, trace("good", 3, runs("trace_exec")))
		f.await(t, "good@3")
	})
}

// TestServerThatIsAway: what is known stays, what was missed is told when it is back.
func TestServerThatIsAway(t *testing.T) {
	everyServer(t, func(t *testing.T, s *apitest.Server) {
		s.Put(namespaced, trace("a", 1, runs("trace_exec")))
		f := followUntilEnd(t, s)
		f.await(t, "a@1")
		_, before := f.names()
		s.Stop()
		require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "can't be asked") }, patience, time.Millisecond)
		s.Put(namespaced, trace("b", 1, runs("trace_exec")))
		got, sets := f.names()
		require.Equal(t, "a@1", got)
		require.Equal(t, before, sets)
		s.Start()
		f.await(t, "a@1 b@1")
		require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "in step") }, patience, time.Millisecond)
		require.Equal(t, 1, strings.Count(f.log.String(), "can't be asked"), f.log.String())
	})
}

// TestServerThatRefuses, for example because the agent's role is too old: what is known
// stays, and before that nothing is told.
func TestServerThatRefuses(t *testing.T) {
	s := newServer(t, true)
	s.Forbid("no such right")
	f := followUntilEnd(t, s)
	require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "no such right") }, patience, time.Millisecond)
	_, sets := f.names()
	require.Zero(t, sets)
	s.Put(namespaced, trace("a", 1, runs("trace_exec")))
	s.Forbid("")
	f.await(t, "a@1")
}

// TestDefinitionsThatArentThereYet are waited for; one kind doesn't wait for the other.
func TestDefinitionsThatArentThereYet(t *testing.T) {
	everyServer(t, func(t *testing.T, s *apitest.Server) {
		s.Define(namespaced, false)
		s.Define(clusterWide, false)
		f := followUntilEnd(t, s)
		f.await(t, "")
		s.Define(clusterWide, true)
		s.Put(clusterWide, clusterTrace("b", 1, runs("trace_open")))
		f.await(t, "b@1")
		s.Define(namespaced, true)
		s.Put(namespaced, trace("a", 1, runs("trace_exec")))
		f.await(t, "a@1 b@1")
		require.Equal(t, 1, strings.Count(f.log.String(), "waiting for their definitions"), f.log.String())
	})
}

// TestDefinitionsThatAreReplaced, as an upgrade may do: sessions go on meanwhile.
func TestDefinitionsThatAreReplaced(t *testing.T) {
	s := newServer(t, false)
	s.Put(namespaced, trace("a", 1, runs("trace_exec")))
	f := followUntilEnd(t, s)
	f.await(t, "a@1")
	s.Stop()
	s.Define(namespaced, false)
	s.Start()
	require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "waiting for their definitions") }, patience, time.Millisecond)
	got, _ := f.names()
	require.Equal(t, "a@1", got)
	s.Define(namespaced, true)
	s.Put(namespaced, trace("b", 1, runs("trace_exec")))
	f.await(t, "a@1 b@1")
}

func TestRunNeedsANode(t *testing.T) {
	require.ErrorContains(t, Run(t.Context(), Options{}), "node's name")
}
