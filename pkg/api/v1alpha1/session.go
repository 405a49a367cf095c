// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TraceSession traces pods of its own namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=tracesessions,shortName=tsess,categories=nodegadget
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Gadget",type=string,JSONPath=`.spec.gadget.name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes.summary`,description="Nodes on which it runs, of those that it is for"
// +kubebuilder:printcolumn:name="Events",type=integer,JSONPath=`.status.events`
// +kubebuilder:printcolumn:name="Lost",type=integer,JSONPath=`.status.lost`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.expiresAt`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Running")].reason`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Running")].message`,priority=1
type TraceSession struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is wanted.
	Spec TraceSessionSpec `json:"spec"`
	// Status is how it is doing. The controller writes it.
	// +optional
	Status SessionStatus `json:"status,omitzero"`
}

// TraceSessionList is what a list of sessions comes as.
//
// +kubebuilder:object:root=true
type TraceSessionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []TraceSession `json:"items"`
}

// ClusterTraceSession traces pods of any namespaces, and processes of the nodes
// themselves.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=clustertracesessions,scope=Cluster,shortName=ctsess,categories=nodegadget
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Gadget",type=string,JSONPath=`.spec.gadget.name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes.summary`,description="Nodes on which it runs, of those that it is for"
// +kubebuilder:printcolumn:name="Events",type=integer,JSONPath=`.status.events`
// +kubebuilder:printcolumn:name="Lost",type=integer,JSONPath=`.status.lost`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.expiresAt`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Running")].reason`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Running")].message`,priority=1
type ClusterTraceSession struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is wanted.
	Spec ClusterTraceSessionSpec `json:"spec"`
	// Status is how it is doing. The controller writes it.
	// +optional
	Status SessionStatus `json:"status,omitzero"`
}

// ClusterTraceSessionList is what a list of sessions comes as.
//
// +kubebuilder:object:root=true
type ClusterTraceSessionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterTraceSession `json:"items"`
}
