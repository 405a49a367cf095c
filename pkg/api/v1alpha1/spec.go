// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TraceSessionSpec is what a TraceSession wants.
type TraceSessionSpec struct {
	SessionSpec `json:",inline"`

	// Selector says which of the namespace's pods are traced. Missing: all.
	// +optional
	Selector PodSelection `json:"selector,omitempty"`
}

// ClusterTraceSessionSpec is what a ClusterTraceSession wants.
type ClusterTraceSessionSpec struct {
	SessionSpec `json:",inline"`

	// Selector says what is traced. Missing: the pods of all namespaces on all nodes.
	// +optional
	Selector ClusterSelection `json:"selector,omitempty"`
}

// SessionSpec is what both kinds of sessions have in common. All of it but the gadget
// may be changed while the session runs.
type SessionSpec struct {
	// Gadget is what runs. It can't be changed: records of two gadgets don't go into
	// one stream.
	Gadget GadgetRef `json:"gadget"`

	// Params are the gadget's parameters, by the names that its flags have. What they
	// may be says `kubectl gadget inspect`.
	// +optional
	Params map[string]string `json:"params,omitempty"`

	// Filter is a CEL expression over the gadget's columns: only records for which it
	// is true are kept. Empty keeps all.
	// +optional
	Filter string `json:"filter,omitempty"`

	// Interval is the time between two readings of a table or a snapshot, such as 10s.
	// Missing: the agent's default. Gadgets that report events have none.
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`

	// BufferSize is the size in bytes of the kernel's buffer for events, on each node.
	// Missing: the agent's default.
	// +optional
	BufferSize *resource.Quantity `json:"bufferSize,omitempty"`

	// Output is where records go. Missing: a stream with its defaults.
	// +optional
	Output Output `json:"output,omitempty"`

	// TTL is how long the session runs, such as 1h, counted from its creation. It is
	// then Completed, and can still be read. Missing: until it is deleted.
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`

	// Suspend stops the session for as long as it is true. What was recorded is kept.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// GadgetRef says which gadget runs.
type GadgetRef struct {
	// Name of a gadget that the agents have, such as trace_exec.
	Name string `json:"name"`
}

// PodSelection says whose records are wanted. Restrictions add up.
type PodSelection struct {
	// PodSelector selects pods by their labels. Missing: all.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

	// PodNames are names of pods. Empty: all.
	// +optional
	PodNames []string `json:"podNames,omitempty"`

	// ContainerNames are names of containers in the pods. Empty: all.
	// +optional
	ContainerNames []string `json:"containerNames,omitempty"`
}

// ClusterSelection says whose records are wanted, of all that a cluster has.
type ClusterSelection struct {
	PodSelection `json:",inline"`

	// Namespaces of pods. Empty: all.
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// NodeNames are the nodes to run on. Empty: all.
	// +optional
	NodeNames []string `json:"nodeNames,omitempty"`

	// Host adds processes outside of containers, whatever the restrictions on pods say.
	// +optional
	Host bool `json:"host,omitempty"`
}
