// SPDX-License-Identifier: Apache-2.0

// Package guest runs virtual machines that are nodes of a cluster, so that one cluster
// has kernels of several kinds. Software emulation does: they need no KVM.
//
// A guest is made of
//
//   - a kernel and its modules, which `go run ./test/kernels fetch -modules` fetches or
//     builds, see [ReadKernels],
//   - a disk with the programs of this machine and the images of containers, the same
//     for all guests, who each change a copy of it: [Root],
//   - an initramfs with the command init, the modules, and what makes it this node.
//
// It is started by [Start], and ends with the cluster.
package guest
