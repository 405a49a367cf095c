// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// causes are the conditions that say why a session is in its phase.
var causes = map[v1alpha1.SessionPhase]string{
	v1alpha1.SessionDegraded: v1alpha1.ConditionDegraded, v1alpha1.SessionCompleted: v1alpha1.ConditionCompleted,
}

// tell records an event about a change of phase. Interactive sessions have none: who
// made them is watching.
func (r *reconciler) tell(object *unstructured.Unstructured, m *memory, status *v1alpha1.SessionStatus, now time.Time) {
	if status.Phase == m.status.Phase || object.GetLabels()[v1alpha1.LabelInteractive] == "true" {
		return
	}
	if !m.events.AllowN(now, 1) || !r.chatter.AllowN(now, 1) {
		return
	}
	kind, cause := corev1.EventTypeNormal, causes[status.Phase]
	if status.Phase == v1alpha1.SessionFailed || status.Phase == v1alpha1.SessionDegraded {
		kind = corev1.EventTypeWarning
	}
	if cause == "" {
		cause = v1alpha1.ConditionRunning
		if meta.IsStatusConditionFalse(status.Conditions, v1alpha1.ConditionAccepted) {
			cause = v1alpha1.ConditionAccepted
		}
	}
	note := ""
	if c := meta.FindStatusCondition(status.Conditions, cause); c != nil {
		note = sentence(c.Reason+": "+c.Message, maxNote)
	}
	r.events.Eventf(object, nil, kind, string(status.Phase), "Reconcile", "%s", note)
}
