// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"nodegadget.dev/pkg/relay"
)

// agentPort is the name of the agents' port for the controller.
const agentPort = "grpc"

// agents follows the pods of the DaemonSets.
type agents struct {
	factory informers.SharedInformerFactory
	synced  cache.InformerSynced
}

// followAgents tells fleet where the agents are, now and whenever that changes, until
// ctx ends.
func followAgents(ctx context.Context, client kubernetes.Interface, namespace string, fleet *relay.Fleet) (*agents, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(namespace), informers.WithTransform(stripPod))
	pods := factory.Core().V1().Pods()
	update := func(any) { fleet.Set(findAgents(pods.Lister())) }
	registration, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: update, UpdateFunc: func(_, pod any) { update(pod) }, DeleteFunc: update,
	})
	if err != nil {
		return nil, fmt.Errorf("following the agents' pods: %w", err)
	}
	factory.Start(ctx.Done())
	return &agents{factory: factory, synced: registration.HasSynced}, nil
}

// stop waits for the informer, whose context must have ended.
func (a *agents) stop() { a.factory.Shutdown() }

// stripPod keeps what is looked at: a large cluster has thousands of agents.
func stripPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	stripped := &corev1.Pod{Spec: corev1.PodSpec{NodeName: pod.Spec.NodeName}}
	stripped.Name, stripped.Namespace, stripped.UID, stripped.ResourceVersion = pod.Name, pod.Namespace, pod.UID, pod.ResourceVersion
	stripped.Labels, stripped.CreationTimestamp, stripped.DeletionTimestamp = pod.Labels, pod.CreationTimestamp, pod.DeletionTimestamp
	stripped.Status = corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, Reason: pod.Status.Reason, Message: pod.Status.Message}
	for _, c := range pod.Spec.Containers {
		stripped.Spec.Containers = append(stripped.Spec.Containers, corev1.Container{Name: c.Name, Ports: c.Ports})
	}
	for _, c := range pod.Status.ContainerStatuses {
		stripped.Status.ContainerStatuses = append(stripped.Status.ContainerStatuses,
			corev1.ContainerStatus{Name: c.Name, State: c.State, Ready: c.Ready})
	}
	return stripped, nil
}

// agentLabels select the agents' pods.
var agentLabels = labels.SelectorFromSet(labels.Set{
	"app.kubernetes.io/name": "nodegadget", "app.kubernetes.io/component": "agent",
})

// findAgents lists one agent for each node that has a pod of a DaemonSet: the newest
// that can be reached, or else the newest.
func findAgents(pods listers.PodLister) []relay.Agent {
	found, err := pods.List(agentLabels)
	if err != nil {
		// A lister answers from memory.
		return nil
	}
	slices.SortFunc(found, func(a, b *corev1.Pod) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	byNode := map[string]relay.Agent{}
	for _, pod := range found {
		node := pod.Spec.NodeName
		if known, ok := byNode[node]; node == "" || ok && known.Address != "" {
			continue
		}
		agent := relay.Agent{Node: node}
		agent.Address, agent.Problem = reach(pod)
		if _, ok := byNode[node]; !ok || agent.Address != "" {
			byNode[node] = agent
		}
	}
	list := make([]relay.Agent, 0, len(byNode))
	for _, agent := range byNode {
		list = append(list, agent)
	}
	slices.SortFunc(list, func(a, b relay.Agent) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// reach says where a pod's agent is, or why it can't be reached. A pod that isn't ready
// is tried all the same: what stands in its way is best told by itself.
func reach(pod *corev1.Pod) (address, problem string) {
	if pod.DeletionTimestamp != nil {
		return "", fmt.Sprintf("the agent's pod %s is being deleted", pod.Name)
	}
	for _, c := range pod.Status.ContainerStatuses {
		if waiting := c.State.Waiting; waiting != nil {
			return "", fmt.Sprintf("the agent's pod %s is waiting: %s %s", pod.Name, waiting.Reason, waiting.Message)
		}
		if ended := c.State.Terminated; ended != nil {
			return "", fmt.Sprintf("the agent's pod %s has ended: %s %s", pod.Name, ended.Reason, ended.Message)
		}
	}
	if pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "" {
		return "", fmt.Sprintf("the agent's pod %s is %s: %s", pod.Name, pod.Status.Phase, pod.Status.Message)
	}
	for _, c := range pod.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name == agentPort {
				return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port.ContainerPort))), ""
			}
		}
	}
	return "", fmt.Sprintf("the agent's pod %s has no port %q", pod.Name, agentPort)
}
