// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The names that are in use wherever sessions are.
const (
	// Finalizer keeps a session until the controller has seen it end on the nodes, or
	// has given up on those that don't answer.
	Finalizer = "nodegadget.dev/session"
	// LabelInteractive is "true" in a session that lives as long as the client which
	// made it: `kubectl gadget trace exec` without --detach.
	LabelInteractive = "nodegadget.dev/interactive"
)

// GroupVersion is that of the types in this package.
var GroupVersion = schema.GroupVersion{Group: "nodegadget.dev", Version: "v1alpha1"}

// Resource is what an API server calls one of the group's resources: "tracesessions".
func Resource(name string) schema.GroupResource {
	return GroupVersion.WithResource(name).GroupResource()
}

// AddToScheme makes a scheme know the types in this package.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&TraceSession{}, &TraceSessionList{}, &ClusterTraceSession{}, &ClusterTraceSessionList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
