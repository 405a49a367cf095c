// SPDX-License-Identifier: Apache-2.0

// Package container knows which containers there are on this node, and which
// cgroup belongs to which of them.
//
// A small eBPF program, the tracker, tells of each cgroup that is made or removed,
// so that a container is known before its first instruction. The cgroup's path has
// the container's id and the pod's; what else there is to know comes from the
// container runtime (the packages below this one) and from whoever watches pods.
//
// It attaches nothing to records: that is pkg/enrich.
package container
