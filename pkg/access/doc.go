// SPDX-License-Identifier: Apache-2.0

// Package access decides who calls the controller and what they may. It has no users
// and no rules of its own: Kubernetes is asked, as an aggregated API server would.
//
// Who calls is said by a client certificate that the cluster's client CA has signed,
// or by a bearer token that the API server reviews; impersonation is honoured as
// kubectl --as means it. What the caller may is a SubjectAccessReview: creating
// tracesessions/stream in every namespace whose pods are asked for, and cluster-wide
// to see all pods; creating clustertracesessions/stream to see what is outside of
// pods. To read what a trace session has recorded is to get tracesessions/stream in its
// namespace, or clustertracesessions/stream. Nothing is remembered: who asks again
// learns of a right that was taken away, a token that was revoked, a certificate that has
// run out.
package access
