// SPDX-License-Identifier: Apache-2.0

// Package apiserver runs etcd and a kube-apiserver by themselves, on loopback, for
// tests of what talks to nothing else: no nodes, no root. Its tests are those of the
// controller's half of trace sessions, with agents that are made up.
//
// The programs are those of the clusters that package cluster makes.
package apiserver
