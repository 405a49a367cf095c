// SPDX-License-Identifier: Apache-2.0

// Package live holds the tests that load gadgets into a real kernel: this
// machine's under `go test`, and those of the kernel matrix, where the compiled
// test binary runs inside a virtual machine (make test-kernels).
//
// Everything goes the way that users go: agent, gRPC, client. The test binary is
// also the program that makes events, when it is called by the name "tool".
package live
