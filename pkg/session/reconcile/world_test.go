// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/wire"
)

// epoch is when tests begin.
var epoch = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return epoch.Add(d) }

// runs is what an agent says of a session that runs.
func runs(uid string, began time.Time, records, lost uint64) *wire.SessionState {
	return &wire.SessionState{
		Uid: uid, Namespace: "shop", Name: uid, Generation: 1, Phase: wire.SessionState_RUNNING,
		Began: began.UnixNano(), Records: records, Loss: &wire.Loss{Kernel: lost},
	}
}

func fails(uid, reason, message string) *wire.SessionState {
	return &wire.SessionState{Uid: uid, Namespace: "shop", Name: uid, Generation: 1, Phase: wire.SessionState_FAILED, Reason: reason, Message: message}
}

func stopped(uid string) *wire.SessionState {
	return &wire.SessionState{Uid: uid, Namespace: "shop", Name: uid, Generation: 1, Phase: wire.SessionState_STOPPED}
}

func says(states ...*wire.SessionState) *wire.SessionsReport {
	return &wire.SessionsReport{Sessions: states}
}

// plain is a session of the name that runs everywhere.
func plain(t testing.TB, uid string) *session.Session {
	t.Helper()
	object := &v1alpha1.TraceSession{}
	object.Namespace, object.Name, object.UID, object.Generation = "shop", uid, types.UID(uid), 1
	object.CreationTimestamp = metav1.NewTime(epoch)
	object.Spec.Gadget.Name = "trace_exec"
	s, err := session.Of(object)
	require.NoError(t, err)
	return &s
}

// server is a client of an API server that isn't there: it has objects, and counts
// writes of statuses.
type server struct {
	client.Client
	mu      sync.Mutex
	objects map[types.NamespacedName]*unstructured.Unstructured
	writes  map[types.NamespacedName][]time.Time
	deleted []types.NamespacedName
}

func newServer() *server {
	return &server{objects: map[types.NamespacedName]*unstructured.Unstructured{}, writes: map[types.NamespacedName][]time.Time{}}
}

func keyOf(o client.Object) types.NamespacedName { return client.ObjectKeyFromObject(o) }

func (s *server) put(t testing.TB, object *v1alpha1.TraceSession) {
	t.Helper()
	object.APIVersion, object.Kind = v1alpha1.GroupVersion.String(), session.Kind
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &unstructured.Unstructured{Object: content}
	s.objects[keyOf(u)] = u
}

func (s *server) status(t testing.TB, key types.NamespacedName) *v1alpha1.SessionStatus {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	return readStatus(s.objects[key])
}

func (s *server) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[key] == nil {
		return apierrors.NewNotFound(v1alpha1.Resource("tracesessions"), key.Name)
	}
	s.objects[key].DeepCopyInto(into.(*unstructured.Unstructured))
	return nil
}

func (s *server) Patch(_ context.Context, object client.Object, _ client.Patch, _ ...client.PatchOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(object)
	s.objects[key].SetFinalizers(object.GetFinalizers())
	if object.GetDeletionTimestamp() != nil && len(object.GetFinalizers()) == 0 {
		delete(s.objects, key)
	}
	return nil
}

func (s *server) Delete(_ context.Context, object client.Object, _ ...client.DeleteOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = append(s.deleted, keyOf(object))
	return nil
}

func (s *server) Status() client.SubResourceWriter { return statusWriter{server: s} }

type statusWriter struct {
	client.SubResourceWriter
	server *server
}

func (w statusWriter) Apply(_ context.Context, configuration runtime.ApplyConfiguration, _ ...client.SubResourceApplyOption) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(configuration)
	if err != nil {
		return err
	}
	applied := &unstructured.Unstructured{Object: content}
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	key := keyOf(applied)
	w.server.objects[key].Object["status"] = applied.Object["status"]
	w.server.writes[key] = append(w.server.writes[key], time.Now())
	return nil
}

// silent records no events.
type silent struct{}

func (silent) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

func (silent) AnnotatedEventf(_, _ runtime.Object, _ map[string]string, _, _, _, _ string, _ ...any) {
}

func newReconciler(t testing.TB, s *server, b *board) *reconciler {
	t.Helper()
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "")
	require.NoError(t, err)
	return &reconciler{
		kind: session.Kind, client: s, board: b, judge: &judge{catalog: catalog, specs: map[string]*gadget.Spec{}},
		events: silent{}, chatter: rate.NewLimiter(5, 50), memories: map[types.NamespacedName]*memory{},
	}
}

// work reconciles sessions when the board says so and when it is due, as
// controller-runtime does, until ctx ends.
func work(ctx context.Context, t testing.TB, r *reconciler, keys []types.NamespacedName) {
	queues := map[types.NamespacedName]chan struct{}{}
	var group sync.WaitGroup
	for _, key := range keys {
		queues[key] = make(chan struct{}, 1)
		group.Go(func() {
			for ctx.Err() == nil {
				result, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: key})
				if err != nil {
					t.Error(err)
				}
				timer := make(<-chan time.Time)
				if result.RequeueAfter > 0 {
					timer = time.After(result.RequeueAfter)
				}
				select {
				case <-ctx.Done():
				case <-queues[key]:
				case <-timer:
				}
			}
		})
	}
	r.board.onNews(false, func(key types.NamespacedName) {
		select {
		case queues[key] <- struct{}{}:
		default:
		}
	})
	group.Wait()
}
