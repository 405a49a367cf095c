// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/api/apitest"
	"nodegadget.dev/pkg/container"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// follower is who is told.
type follower struct {
	mu   sync.Mutex
	pods map[string]container.Pod
	// told are the calls, in order.
	told []string
	log  log
}

// log is one that may be read while it is written.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (f *follower) note(what string) { f.told = append(f.told, what) }

// taken are the calls since it was last asked.
func (f *follower) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := f.told
	f.told = nil
	return told
}

func (f *follower) set(pods ...container.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, pod := range pods {
		f.pods[pod.UID] = pod
		names = append(names, pod.Name)
	}
	slices.Sort(names)
	f.note("set " + strings.Join(names, " "))
}

func (f *follower) drop(uids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, uid := range uids {
		delete(f.pods, uid)
	}
	slices.Sort(uids)
	f.note("drop " + strings.Join(uids, " "))
}

func (f *follower) stale(stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(fmt.Sprint("stale ", stale))
}

// await waits for calls, and that there are no others.
func (f *follower) await(t *testing.T, calls ...string) {
	t.Helper()
	var got []string
	require.Eventually(t, func() bool {
		got = append(got, f.taken()...)
		return len(got) >= len(calls)
	}, 10*time.Second, 2*time.Millisecond, "waiting for %q, got %q", calls, got)
	require.Equal(t, calls, got)
}

// follow runs an informer until the test ends.
func follow(t *testing.T, s *apitest.Server) *follower {
	t.Helper()
	f := &follower{pods: map[string]container.Pod{}}
	informer, err := New(Options{
		Config: s.Config(), Node: "node1", Set: f.set, Drop: f.drop, Stale: f.stale,
		MaxBackoff: 20 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&f.log, nil)),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Stop()
	})
	return f
}

func pod(name, uid string, labels ...string) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{}
	p.Name, p.Namespace, p.UID = name, "shop", types.UID(uid)
	p.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("x", 1000)}
	for i := 0; i < len(labels); i += 2 {
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[labels[i]] = labels[i+1]
	}
	return p
}

func ownedBy(p *metav1.PartialObjectMetadata, kind, name string) *metav1.PartialObjectMetadata {
	controller := true
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "Other", Name: "none"}, {Kind: kind, Name: name, Controller: &controller}}
	return p
}

// resource is the path of what is followed.
const resource = "/api/v1/pods"

// newServer is an API server that wants to be asked for the metadata of node1's pods.
func newServer(t *testing.T, protobuf, streams bool) *apitest.Server {
	return apitest.New(t, apitest.Options{
		Kinds: map[string]string{resource: "Pod"}, Protobuf: protobuf, Streams: streams,
		Check: func(request *http.Request) error {
			only, accept := request.URL.Query().Get("fieldSelector"), request.Header.Get("Accept")
			if only != "spec.nodeName=node1" || !strings.Contains(accept, "protobuf;as=PartialObjectMetadata") || !strings.Contains(accept, "json;as=PartialObjectMetadata") {
				return fmt.Errorf("asked for %q as %q", only, accept)
			}
			return nil
		},
	})
}

// everyServer runs a test against the protocol's variants.
func everyServer(t *testing.T, test func(*testing.T, *apitest.Server)) {
	for _, protobuf := range []bool{false, true} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("protobuf %v, streams %v", protobuf, streams), func(t *testing.T) {
				test(t, newServer(t, protobuf, streams))
			})
		}
	}
}

// TestInformer: what there is, what is new, what changes, what goes.
func TestInformer(t *testing.T) {
	everyServer(t, func(t *testing.T, s *apitest.Server) {
		cart := ownedBy(pod("cart-1", "1", "app", "cart", "pod-template-hash", "7d9f8"), "ReplicaSet", "cart-7d9f8")
		s.Put(resource, cart)
		s.Put(resource, pod("db-0", "2"))
		f := follow(t, s)
		f.await(t, "set cart-1 db-0", "stale false")
		require.Equal(t, map[string]container.Pod{
			"1": {
				Namespace: "shop", Name: "cart-1", UID: "1", OwnerKind: "Deployment", OwnerName: "cart",
				Labels: map[string]string{"app": "cart", "pod-template-hash": "7d9f8"},
			},
			"2": {Namespace: "shop", Name: "db-0", UID: "2"},
		}, f.pods)

		s.Put(resource, pod("new", "3", "a", "b"))
		f.await(t, "set new")
		changed := cart.DeepCopy()
		changed.Labels["app"] = "canary"
		s.Put(resource, changed)
		f.await(t, "set cart-1")
		require.Equal(t, "canary", f.pods["1"].Labels["app"])

		// Most news are of statuses, and nothing here.
		again := changed.DeepCopy()
		again.Annotations = nil
		s.Put(resource, again)
		s.Remove(resource, "shop", "db-0")
		f.await(t, "drop 2")

		// Recreated under the same name.
		s.Remove(resource, "shop", "new")
		s.Put(resource, pod("new", "4"))
		f.await(t, "drop 3", "set new")
		require.Equal(t, []string{"1", "4"}, slices.Sorted(maps.Keys(f.pods)))
	})
}

// TestServerThatIsAway: what is known is kept and said to be stale. What was missed
// is told when the server is back, and only that.
func TestServerThatIsAway(t *testing.T) {
	everyServer(t, func(t *testing.T, s *apitest.Server) {
		s.Put(resource, pod("a", "1"))
		s.Put(resource, pod("b", "2"))
		f := follow(t, s)
		f.await(t, "set a b", "stale false")
		for round := range 2 {
			s.Stop()
			f.await(t, "stale true")
			require.Len(t, f.pods, 2)
			s.Put(resource, pod("a", "1", "round", fmt.Sprint(round)))
			s.Start()
			// The watch goes on, or all is listed again: either order is right.
			var got []string
			require.Eventually(t, func() bool { got = append(got, f.taken()...); return len(got) == 2 }, 10*time.Second, 2*time.Millisecond)
			require.ElementsMatch(t, []string{"set a", "stale false"}, got)
		}
		require.Contains(t, f.log.String(), "connection refused")
	})
}

// TestServerThatForgot what was new lists everything again.
func TestServerThatForgot(t *testing.T) {
	everyServer(t, func(t *testing.T, s *apitest.Server) {
		s.Put(resource, pod("a", "1"))
		s.Put(resource, pod("b", "2"))
		f := follow(t, s)
		f.await(t, "set a b", "stale false")
		s.Stop()
		f.await(t, "stale true")
		s.Remove(resource, "shop", "a")
		s.Put(resource, pod("c", "3"))
		s.Forget()
		s.Start()
		var got []string
		require.Eventually(t, func() bool {
			got = append(got, f.taken()...)
			return slices.Contains(got, "drop 1") && slices.Contains(got, "set c") && slices.Contains(got, "stale false")
		}, 10*time.Second, 2*time.Millisecond)
		require.Len(t, got, 3)
		require.Equal(t, []string{"2", "3"}, slices.Sorted(maps.Keys(f.pods)))
	})
}

// TestServerThatIsntThereYet, or that refuses: that is said at once, and why is logged.
func TestServerThatIsntThereYet(t *testing.T) {
	s := newServer(t, true, true)
	s.Stop()
	f := follow(t, s)
	f.await(t, "stale true")
	s.Forbid("no such right")
	s.Start()
	time.Sleep(100 * time.Millisecond)
	require.Empty(t, f.taken())
	s.Put(resource, pod("a", "1"))
	s.Forbid("")
	f.await(t, "set a", "stale false")
	s.Forbid("no such right")
	s.Stop()
	s.Start()
	f.await(t, "stale true")
}

// TestRefusalIsLogged with its reason, once.
func TestRefusalIsLogged(t *testing.T) {
	s := newServer(t, false, false)
	s.Forbid("no such right")
	f := follow(t, s)
	f.await(t, "stale true")
	time.Sleep(100 * time.Millisecond)
	require.Empty(t, f.taken())
	require.Equal(t, 1, strings.Count(f.log.String(), "\n"), f.log.String())
	require.Contains(t, f.log.String(), "no such right")
}

// TestOptions are checked before anything is asked.
func TestOptions(t *testing.T) {
	s := newServer(t, false, false)
	_, err := New(Options{Config: s.Config()})
	require.EqualError(t, err, "following pods: the node's name isn't known")
	config := s.Config()
	config.Host = "::"
	_, err = New(Options{Config: config, Node: "node1"})
	require.ErrorContains(t, err, "making a client of the API server: ")
}
