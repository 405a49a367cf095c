// SPDX-License-Identifier: Apache-2.0

// Package controller puts gadget-controller together: the authority for certificates
// in the cluster's Secret and ConfigMap, the agents found by their pods, the relay and
// the enrolment of agents behind one gRPC port, and metrics and health behind another.
//
// It decides nothing itself: what callers may is pkg/access's, what they get is
// pkg/relay's business.
package controller
