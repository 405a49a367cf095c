// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// The kinds of sessions.
const (
	Kind        = "TraceSession"
	ClusterKind = "ClusterTraceSession"
)

// Decode reads an object as the API server sent it, of either kind. Lists and watches
// are read object by object: the API server's schema lets values through that Go's
// types don't take, and in a typed list a single such object, which anybody may make
// who may make sessions, would hide all others.
func Decode(object *unstructured.Unstructured) (Session, error) {
	switch object.GetKind() {
	case Kind:
		var typed v1alpha1.TraceSession
		if err := convert(object, &typed); err != nil {
			return Session{}, err
		}
		return Of(&typed)
	case ClusterKind:
		var typed v1alpha1.ClusterTraceSession
		if err := convert(object, &typed); err != nil {
			return Session{}, err
		}
		return OfCluster(&typed)
	}
	return Session{}, fmt.Errorf("a %.64q is no trace session", object.GetKind())
}

// convert leaves out the status, of which nothing is wanted.
func convert(object *unstructured.Unstructured, to any) error {
	wanted := map[string]any{"metadata": object.Object["metadata"], "spec": object.Object["spec"]}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(wanted, to); err != nil {
		return fmt.Errorf("reading the spec: %w", err)
	}
	return nil
}
