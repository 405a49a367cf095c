// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"nodegadget.dev/pkg/api/v1alpha1"
)

const (
	// endPatience is how long a session that is deleted waits for nodes that still run it.
	endPatience = 10 * time.Second
	// endPace is how often it is looked whether they do.
	endPace = 200 * time.Millisecond
	// idleness is how long an interactive session is kept that nobody has read yet, and
	// idlenessAfter one that nobody reads any more. The relay has waited for the client
	// before.
	idleness      = 30 * time.Second
	idlenessAfter = 6 * time.Second
)

// end lets a deleted session go: when no agent that can be heard runs it, or after a
// while. Nodes that are dead don't matter, and agents that come back learn for
// themselves that it is gone.
func (r *reconciler) end(ctx context.Context, object *unstructured.Unstructured, m *memory, now time.Time) (reconcile.Result, error) {
	if m.ending.IsZero() {
		m.ending = now
	}
	if r.board.view(&m.read, now).anywhere && now.Sub(m.ending) < endPatience {
		return reconcile.Result{RequeueAfter: endPace}, nil
	}
	before := object.DeepCopy()
	if !controllerutil.RemoveFinalizer(object, v1alpha1.Finalizer) {
		return reconcile.Result{}, nil
	}
	err := r.client.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return reconcile.Result{}, ignoreRaces(err)
}

// idle says for how long an interactive session may still be unread.
func (r *reconciler) idle(m *memory, v *view, now time.Time) time.Duration {
	if v.reading {
		return idleness
	}
	// A controller that has just begun doesn't know who read it before.
	since := latest(latest(m.read.Created, v.lastRead), v.started)
	if v.lastGap != nil {
		since = latest(since, v.lastGap.to)
	}
	// Where an agent is away its readers may only be so as well.
	if known := v.desired > 0 && v.failed == 0 && !v.unsure; known && !v.lastRead.IsZero() {
		return idlenessAfter - now.Sub(since)
	}
	return idleness - now.Sub(since)
}

// delete deletes an interactive session.
func (r *reconciler) delete(ctx context.Context, object *unstructured.Unstructured) error {
	return r.client.Delete(ctx, object, client.Preconditions{UID: ptr.To(object.GetUID())})
}
