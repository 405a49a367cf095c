// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real Kubernetes cluster on this machine: etcd, control
// plane, and nodes with containerd, runc, kubelet and kube-proxy.
//
// All nodes share this machine's kernel and process ids. Each has its own network,
// mounts and host name, and its cgroups and files below a directory of the
// cluster, so nothing of the machine changes but for what is listed here:
//
//   - cgroups in every hierarchy that is mounted, with a name made of [Options].Dir,
//   - the directory and its lock file.
//
// [Main] is the way in. It starts the calling program once more in network and
// mount namespaces of its own, which are the control plane's as well: so that
// program reaches the API server as any client does. The first process stays
// outside, and when the second one has ended, however it ended, it kills what is
// left in the cgroups, process by process, and removes them and the directory. What
// a first process that was killed leaves behind, the next one removes.
package cluster
