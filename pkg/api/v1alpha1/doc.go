// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the API of trace sessions: traces as desired state. A
// TraceSession traces pods of its own namespace and nothing else; a
// ClusterTraceSession traces pods of any namespace, and nodes. Whoever may create
// one may trace what it says, so Kubernetes' RBAC decides.
//
// The spec is what is wanted, and agents only read it. The status is written by the
// controller alone. What the fields mean beyond their types is in pkg/session; here
// is nothing but types, so that clients can use it without bringing in the rest.
//
// Compatibility: fields are only added, and a new one is optional. What an older
// object doesn't say means what it meant before.
//
// +kubebuilder:object:generate=true
// +groupName=nodegadget.dev
package v1alpha1

//go:generate go run ../../../hack/apidocs ../../../charts/nodegadget/files/crds ../../../docs/api.md
