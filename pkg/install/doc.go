// SPDX-License-Identifier: Apache-2.0

// Package install puts nodegadget into a cluster and takes it out again, with Helm's
// own library and the chart that this program carries. So `kubectl gadget deploy` and
// `helm install` are one: each can upgrade and remove what the other has installed.
package install
