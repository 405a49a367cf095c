// SPDX-License-Identifier: Apache-2.0

// Package mixed holds the tests on a cluster whose nodes have different kernels (make
// test-e2e-mixed): this machine's, and as virtual machines Debian's 6.1 and a 5.10 that
// was built without BTF.
package mixed
