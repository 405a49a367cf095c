// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/recorder"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
)

const (
	// fieldOwner is who writes statuses, as the API server has it.
	fieldOwner = "gadget-controller"
	// lookPace is the least time between two looks at what nodes report.
	lookPace = 250 * time.Millisecond
	// unsurePace is how soon is looked again at what may have changed by itself.
	unsurePace = time.Second
)

// reconciler writes the statuses of one kind.
type reconciler struct {
	kind   string
	client client.Client
	board  *board
	judge  *judge
	events recorder.EventRecorder
	// chatter bounds the events of all sessions.
	chatter *rate.Limiter

	mu       sync.Mutex
	memories map[types.NamespacedName]*memory
}

// memory is what is remembered of a session between two reconciliations, of which there
// is only one at a time.
type memory struct {
	uid types.UID
	// read and refusal are of the generation.
	generation int64
	deleting   bool
	read       session.Session
	refusal    verdict
	// status is what was written last, at written; looked is when it was made last.
	status          *v1alpha1.SessionStatus
	written, looked time.Time
	// ending is since when it is being deleted.
	ending time.Time
	// events bounds those of this session.
	events *rate.Limiter
}

// Reconcile is part of reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(r.kind))
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(request.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, err
	}
	now := time.Now()
	m := r.remember(request.NamespacedName, object, now)
	if m.deleting {
		return r.end(ctx, object, m, now)
	}
	finalized := r.finalize(ctx, object)
	after, err := r.tend(ctx, object, m, now)
	if err = errors.Join(finalized, err); err != nil {
		return reconcile.Result{}, ignoreRaces(err)
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// ignoreRaces drops errors that another reconciliation follows anyway: the object has
// changed, or is gone.
func ignoreRaces(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (r *reconciler) forget(key types.NamespacedName) {
	r.board.forget(key, "", time.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.memories, key)
}

// remember returns what is known of the object, brought up to date.
func (r *reconciler) remember(key types.NamespacedName, object *unstructured.Unstructured, now time.Time) *memory {
	r.mu.Lock()
	m := r.memories[key]
	if m == nil || m.uid != object.GetUID() {
		m = &memory{uid: object.GetUID(), generation: -1, events: rate.NewLimiter(rate.Every(30*time.Second), 5)}
		r.memories[key] = m
	}
	r.mu.Unlock()
	r.board.forget(key, m.uid, now)
	if m.status == nil {
		m.status = readStatus(object)
		r.board.know(m.uid, key, now, m.status)
	}
	m.deleting = object.GetDeletionTimestamp() != nil
	if m.generation != object.GetGeneration() {
		m.generation, m.looked = object.GetGeneration(), time.Time{}
		m.read, m.refusal = r.judge.read(object)
	}
	return m
}

// readStatus is the status that an object has. What can't be read is made anew.
func readStatus(object *unstructured.Unstructured) *v1alpha1.SessionStatus {
	status := &v1alpha1.SessionStatus{}
	if found, ok, _ := unstructured.NestedMap(object.Object, "status"); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found, status); err != nil {
			return &v1alpha1.SessionStatus{}
		}
	}
	return status
}

// finalize makes the object wait for its end.
func (r *reconciler) finalize(ctx context.Context, object *unstructured.Unstructured) error {
	before := object.DeepCopy()
	if !controllerutil.AddFinalizer(object, v1alpha1.Finalizer) {
		return nil
	}
	return r.client.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// tend writes the status of a session that is not being deleted if it is due, or
// deletes the session if nobody needs it. It says after how long to look again.
func (r *reconciler) tend(ctx context.Context, object *unstructured.Unstructured, m *memory, now time.Time) (time.Duration, error) {
	if wait := lookPace - now.Sub(m.looked); wait > 0 {
		return wait, nil
	}
	m.looked = now
	v := r.board.view(&m.read, now)
	again := m.next(v, now)
	if object.GetLabels()[v1alpha1.LabelInteractive] == "true" {
		idle := r.idle(m, v, now)
		if idle <= 0 {
			return 0, r.delete(ctx, object)
		}
		again = sooner(again, idle)
	}
	if !v.settled && m.status.Phase != "" {
		return again, nil
	}
	status := statusOf(subject{Session: &m.read, refusal: m.refusal}, v, m.status, now)
	wait := due(m.status, status, now.Sub(m.written), v.desired)
	if wait > 0 {
		return sooner(again, wait), nil
	}
	if wait == 0 {
		if err := r.write(ctx, object, status); err != nil {
			return 0, err
		}
		r.tell(object, m, status, now)
		m.status, m.written = status, now
	}
	return again, nil
}

// next says when there is something to do even if there is no news.
func (m *memory) next(v *view, now time.Time) (after time.Duration) {
	if !v.settled || v.unsure && m.refusal.reason == "" && !m.read.Spec.Suspend && !m.read.Expired(now) {
		after = unsurePace
	}
	if expiry, ok := m.read.Expiry(); ok && now.Before(expiry) {
		after = sooner(after, expiry.Sub(now))
	}
	return after
}

// sooner is the shorter time, where 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// write writes a status. The object that it is for is this one, not another of its name.
func (r *reconciler) write(ctx context.Context, object *unstructured.Unstructured, status *v1alpha1.SessionStatus) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return err
	}
	applied := &unstructured.Unstructured{Object: map[string]any{"status": content}}
	applied.SetGroupVersionKind(object.GroupVersionKind())
	applied.SetNamespace(object.GetNamespace())
	applied.SetName(object.GetName())
	applied.SetUID(object.GetUID())
	return r.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), client.FieldOwner(fieldOwner), client.ForceOwnership)
}
