// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests on a real cluster of two nodes, which package cluster
// brings up and takes down (make test-e2e). What they run is what users run: the
// plugin, with nothing but a kubeconfig.
//
// `go run ./test/e2e/lab run` gives the same cluster to a shell.
package e2e
