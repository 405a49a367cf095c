// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	"k8s.io/client-go/dynamic"
)

// Resources is a client for resources of any kind, with the caller's rights.
func (c *Cluster) Resources() (dynamic.Interface, error) {
	client, err := dynamic.NewForConfig(c.config)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return client, nil
}
