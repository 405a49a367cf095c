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
	Selector PodSelection `json:"selector,omitzero"`
}

// ClusterTraceSessionSpec is what a ClusterTraceSession wants.
type ClusterTraceSessionSpec struct {
	SessionSpec `json:",inline"`

	// Selector says what is traced. Missing: the pods of all namespaces on all nodes.
	// +optional
	Selector ClusterSelection `json:"selector,omitzero"`
}

// SessionSpec is what both kinds of sessions have in common. All of it but the gadget
// may be changed while the session runs.
type SessionSpec struct {
	// Gadget is what runs. It can't be changed: records of two gadgets don't go into
	// one stream.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the gadget of a session can't be changed: make another session"
	Gadget GadgetRef `json:"gadget"`

	// Params are the gadget's parameters, by the names that its flags have. What they
	// may be says `kubectl gadget inspect`.
	//
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(name, size(name) <= 63 && size(self[name]) <= 4096)",message="names of parameters have at most 63 characters, and values at most 4096"
	// +optional
	Params map[string]string `json:"params,omitempty"`

	// Filter is a CEL expression over the gadget's columns: only records for which it
	// is true are kept. Empty keeps all.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	Filter string `json:"filter,omitempty"`

	// Interval is the time between two readings of a table or a snapshot, such as 10s.
	// Missing: a second for a table, and a single reading for a snapshot. Gadgets that
	// report events have none.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('24h')",message="an interval is from 10ms to 24h"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`

	// BufferSize is the size in bytes of the kernel's buffer for events, on each node.
	// Missing: the agent's default.
	//
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0')) && !quantity(string(self)).isGreaterThan(quantity('256Mi'))",message="a buffer has more than 0 and at most 256Mi"
	// +optional
	BufferSize *resource.Quantity `json:"bufferSize,omitempty"`

	// Output is where records go. Missing: a stream with its defaults.
	// +optional
	Output Output `json:"output,omitzero"`

	// TTL is how long the session runs, such as 1h, counted from its creation. It is
	// then Completed, and can still be read. Missing: until it is deleted.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('8760h')",message="a session's time is more than 0s and at most 8760h"
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`

	// Suspend stops the session for as long as it is true. What was recorded is kept.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// GadgetRef says which gadget runs.
type GadgetRef struct {
	// Name of a gadget that the agents have, such as trace_exec.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z][a-z0-9]*_[a-z][a-z0-9_]*$`
	Name string `json:"name"`
}

// PodSelection says whose records are wanted. Restrictions add up.
type PodSelection struct {
	// PodSelector selects pods by their labels. Missing: all.
	//
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) ? size(self.matchLabels) : 0) + (has(self.matchExpressions) ? size(self.matchExpressions) : 0) <= 32",message="a pod selector has at most 32 requirements"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="operators of a pod selector are In and NotIn, with values, and Exists and DoesNotExist, without"
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

	// PodNames are names of pods. Empty: all.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +optional
	PodNames []string `json:"podNames,omitempty"`

	// ContainerNames are names of containers in the pods. Empty: all.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	ContainerNames []string `json:"containerNames,omitempty"`
}

// ClusterSelection says whose records are wanted, of all that a cluster has.
type ClusterSelection struct {
	PodSelection `json:",inline"`

	// Namespaces of pods. Empty: all.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// NodeNames are the nodes to run on. Empty: all.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +optional
	NodeNames []string `json:"nodeNames,omitempty"`

	// Host adds processes outside of containers, whatever the restrictions on pods say.
	// +optional
	Host bool `json:"host,omitempty"`
}
