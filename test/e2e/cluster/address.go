// SPDX-License-Identifier: Apache-2.0

package cluster

import "fmt"

// The cluster's networks. They are private to its namespaces, so clusters that run
// at the same time have the same ones.
const (
	// ControlAddress is that of the control plane, on its bridge: nodes and pods reach the
	// test there.
	ControlAddress = "10.89.0.1"
	apiServer      = "https://" + ControlAddress + ":6443"
	serviceRange   = "10.96.0.0/16"
	apiService     = "10.96.0.1" // the first one of the range is the API server's
	dnsService     = "10.96.0.10"
	allPods        = "10.244.0.0/16"
)

// maxNodes is how many addresses there are for nodes.
const maxNodes = 99

func nodeAddress(index int) string { return fmt.Sprintf("10.89.0.%d", 100+index) }

func podRange(index int) string { return fmt.Sprintf("10.244.%d.0/24", index) }
