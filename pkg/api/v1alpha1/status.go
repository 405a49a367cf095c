// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SessionPhase is the state of a session in one word. Conditions say why.
//
// +kubebuilder:validation:Enum=Pending;Running;Degraded;Suspended;Completed;Failed
type SessionPhase string

// The phases of a session.
const (
	// SessionPending hasn't begun on any node.
	SessionPending SessionPhase = "Pending"
	// SessionRunning runs on all nodes that it is for.
	SessionRunning SessionPhase = "Running"
	// SessionDegraded runs, but not on all nodes, or an output of it fails.
	SessionDegraded SessionPhase = "Degraded"
	// SessionSuspended is stopped for as long as its spec says so.
	SessionSuspended SessionPhase = "Suspended"
	// SessionCompleted is over, because its time is.
	SessionCompleted SessionPhase = "Completed"
	// SessionFailed can't run: its spec is refused, or no node can do it.
	SessionFailed SessionPhase = "Failed"
)

// The types of conditions.
const (
	// ConditionAccepted is whether the spec makes sense to the gadget.
	ConditionAccepted = "Accepted"
	// ConditionRunning is whether it runs on any node.
	ConditionRunning = "Running"
	// ConditionDegraded is whether something is wrong: a node, or an output.
	ConditionDegraded = "Degraded"
	// ConditionCompleted is whether it is over.
	ConditionCompleted = "Completed"
)

// SessionStatus is how a session is doing. Its size doesn't depend on the number of
// nodes.
type SessionStatus struct {
	// Phase is the session's state in one word.
	// +optional
	Phase SessionPhase `json:"phase,omitempty"`

	// ObservedGeneration is the generation of the spec that the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions are Accepted, Running, Degraded and Completed.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Nodes counts nodes.
	// +optional
	Nodes NodeCounts `json:"nodes,omitzero"`

	// Events is how many records passed the filter, on all nodes.
	// +optional
	Events int64 `json:"events"`

	// Lost is how many records were lost, at whatever stage, on all nodes.
	// +optional
	Lost int64 `json:"lost"`

	// StartTime is when it first ran on a node.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// CompletionTime is when it was over.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// ExpiresAt is when it will be over.
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`

	// Failures are the first of those that nodes report.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +optional
	Failures []NodeFailure `json:"failures,omitempty"`

	// Gaps is how many times recording was interrupted on a node, because its agent
	// died or the session was changed in a way that needed another program.
	// +optional
	Gaps int64 `json:"gaps,omitempty"`

	// LastGap is the most recent of them.
	// +optional
	LastGap *Gap `json:"lastGap,omitempty"`

	// Outputs are how the outputs are doing, on all nodes.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Outputs []OutputStatus `json:"outputs,omitempty"`
}

// NodeCounts counts the nodes of a session.
type NodeCounts struct {
	// Summary is "running/desired", for kubectl get.
	//
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Summary string `json:"summary,omitempty"`

	// Desired is how many nodes it is for.
	// +optional
	Desired int32 `json:"desired"`

	// Running is on how many of them it runs.
	// +optional
	Running int32 `json:"running"`

	// Failed is on how many of them it can't run.
	// +optional
	Failed int32 `json:"failed"`
}

// NodeFailure is why a session doesn't run on a node.
type NodeFailure struct {
	// Node is the node's name.
	Node string `json:"node"`

	// Reason is a word in CamelCase.
	//
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason"`

	// Message is a sentence.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// Gap is a time in which a node didn't record.
type Gap struct {
	// Node is the node's name.
	Node string `json:"node"`

	// From is when the last record before it may have been made.
	From metav1.Time `json:"from"`

	// To is when recording went on.
	To metav1.Time `json:"to"`
}

// OutputStatus is how an output is doing.
type OutputStatus struct {
	// Name is file, otlp or metrics.
	//
	// +kubebuilder:validation:MaxLength=32
	Name string `json:"name"`

	// Written is how many records it took, on all nodes.
	// +optional
	Written int64 `json:"written"`

	// Dropped is how many it could not take, or not in time.
	// +optional
	Dropped int64 `json:"dropped"`

	// FailingNodes is on how many nodes something is wrong with it now.
	// +optional
	FailingNodes int32 `json:"failingNodes,omitempty"`

	// Error is what is wrong on the first of them.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Error string `json:"error,omitempty"`
}
