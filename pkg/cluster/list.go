// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names is a kind of things that have names.
type Names uint8

// What List knows. The last three are the kubeconfig's.
const (
	Namespaces Names = iota + 1
	Pods
	Containers
	Nodes
	Contexts
	Clusters
	Users
)

// mostNames bounds what is asked of the API server for completing a word.
const mostNames = 1000

// List lists names: of pods and containers those in the namespaces, by default the
// current one; "" is all.
func (c *Cluster) List(ctx context.Context, kind Names, namespaces []string) ([]string, error) {
	limit := metav1.ListOptions{Limit: mostNames, ResourceVersion: "0", ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}
	switch kind {
	case Namespaces:
		list, err := c.api.CoreV1().Namespaces().List(ctx, limit)
		if err != nil {
			return nil, fmt.Errorf("listing namespaces: %w", err)
		}
		return namesOf(list.Items, func(n *corev1.Namespace) string { return n.Name }), nil
	case Nodes:
		list, err := c.api.CoreV1().Nodes().List(ctx, limit)
		if err != nil {
			return nil, fmt.Errorf("listing nodes: %w", err)
		}
		return namesOf(list.Items, func(n *corev1.Node) string { return n.Name }), nil
	case Pods, Containers:
		return c.listPods(ctx, kind, namespaces, limit)
	}
	return c.listConfig(kind)
}

func (c *Cluster) listPods(ctx context.Context, kind Names, namespaces []string, limit metav1.ListOptions) ([]string, error) {
	if len(namespaces) == 0 {
		current, err := c.CurrentNamespace()
		if err != nil {
			return nil, err
		}
		namespaces = []string{current}
	}
	var names []string
	for _, namespace := range namespaces {
		list, err := c.api.CoreV1().Pods(namespace).List(ctx, limit)
		if err != nil {
			return nil, fmt.Errorf("listing pods: %w", err)
		}
		for i := range list.Items {
			if kind == Pods {
				names = append(names, list.Items[i].Name)
				continue
			}
			spec := &list.Items[i].Spec
			for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
				names = append(names, namesOf(containers, func(c *corev1.Container) string { return c.Name })...)
			}
		}
	}
	return names, nil
}

func (c *Cluster) listConfig(kind Names) ([]string, error) {
	raw, err := c.loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	switch kind {
	case Contexts:
		return slices.Collect(maps.Keys(raw.Contexts)), nil
	case Clusters:
		return slices.Collect(maps.Keys(raw.Clusters)), nil
	case Users:
		return slices.Collect(maps.Keys(raw.AuthInfos)), nil
	}
	return nil, fmt.Errorf("there is no list of names of kind %d", kind)
}

func namesOf[T any](items []T, name func(*T) string) []string {
	names := make([]string, 0, len(items))
	for i := range items {
		names = append(names, name(&items[i]))
	}
	return names
}
