// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"nodegadget.dev/pkg/api/v1alpha1"
)

const (
	// statusPace is the least time between two writes of a status.
	statusPace = time.Second
	// countsPace is that where nothing but counts has changed, which is always so while
	// a session runs.
	countsPace = 5 * time.Second
	// countsPacePerNode makes it longer in clusters of more than a thousand nodes: each
	// agent is told of each write, since it watches the object.
	countsPacePerNode = 5 * time.Millisecond
)

// due says how long to wait before a status is written: 0 for now, and negative if
// there is nothing to write.
func due(old, now *v1alpha1.SessionStatus, ago time.Duration, nodes int) time.Duration {
	if equality.Semantic.DeepEqual(old, now) {
		return -1
	}
	pace := statusPace
	if equality.Semantic.DeepEqual(countless(old), countless(now)) {
		pace = max(countsPace, time.Duration(nodes)*countsPacePerNode)
	}
	return max(pace-ago, 0)
}

// countless is a status without its counts.
func countless(status *v1alpha1.SessionStatus) *v1alpha1.SessionStatus {
	status = status.DeepCopy()
	status.Events, status.Lost = 0, 0
	for i := range status.Outputs {
		status.Outputs[i].Written, status.Outputs[i].Dropped = 0, 0
	}
	return status
}
