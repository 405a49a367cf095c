// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"nodegadget.dev/pkg/relay"
)

// agentPod is a running agent's pod.
func agentPod(name, node, ip string, port int32, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0)),
			Labels: map[string]string{"app.kubernetes.io/name": "nodegadget", "app.kubernetes.io/component": "agent"},
		},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Name: "agent", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 9090}, {Name: agentPort, ContainerPort: port}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func TestFindAgents(t *testing.T) {
	waiting := func(pod *corev1.Pod) {
		pod.Status.Phase, pod.Status.PodIP = corev1.PodPending, ""
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"},
		}}}
	}
	newer := func(pod *corev1.Pod) { pod.CreationTimestamp = metav1.NewTime(time.Unix(2000, 0)) }
	for _, test := range []struct {
		name string
		pods []*corev1.Pod
		want []relay.Agent
	}{
		{"none", nil, []relay.Agent{}},
		{"two nodes, IPv4 and IPv6", []*corev1.Pod{
			agentPod("b", "node2", "fd00::1", 9443, nil), agentPod("a", "node1", "10.0.0.1", 9443, nil),
		}, []relay.Agent{{Node: "node1", Address: "10.0.0.1:9443"}, {Node: "node2", Address: "[fd00::1]:9443"}}},
		{
			"waiting",
			[]*corev1.Pod{agentPod("a", "node1", "", 9443, waiting)},
			[]relay.Agent{{Node: "node1", Problem: "the agent's pod a is waiting: ImagePullBackOff no such image"}},
		},
		{"crashed", []*corev1.Pod{agentPod("a", "node1", "10.0.0.1", 9443, func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled"}}}}
		})}, []relay.Agent{{Node: "node1", Problem: "the agent's pod a has ended: OOMKilled "}}},
		{"not scheduled", []*corev1.Pod{agentPod("a", "", "", 9443, waiting)}, []relay.Agent{}},
		{"no address yet", []*corev1.Pod{agentPod("a", "node1", "", 9443, func(pod *corev1.Pod) {
			pod.Status.Phase, pod.Status.Message = corev1.PodPending, "no memory"
		})}, []relay.Agent{{Node: "node1", Problem: "the agent's pod a is Pending: no memory"}}},
		{
			"no port",
			[]*corev1.Pod{agentPod("a", "node1", "10.0.0.1", 9443, func(pod *corev1.Pod) { pod.Spec.Containers = nil })},
			[]relay.Agent{{Node: "node1", Problem: `the agent's pod a has no port "grpc"`}},
		},
		{
			"the newer",
			[]*corev1.Pod{agentPod("a", "node1", "10.0.0.1", 9443, nil), agentPod("b", "node1", "10.0.0.2", 9443, newer)},
			[]relay.Agent{{Node: "node1", Address: "10.0.0.2:9443"}},
		},
		{"the one that runs", []*corev1.Pod{
			agentPod("a", "node1", "10.0.0.1", 9443, nil),
			agentPod("b", "node1", "", 9443, func(pod *corev1.Pod) { newer(pod); waiting(pod) }),
		}, []relay.Agent{{Node: "node1", Address: "10.0.0.1:9443"}}},
		{
			"leaving",
			[]*corev1.Pod{agentPod("a", "node1", "10.0.0.1", 9443, func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{} })},
			[]relay.Agent{{Node: "node1", Problem: "the agent's pod a is being deleted"}},
		},
		{
			"somebody else's",
			[]*corev1.Pod{agentPod("a", "node1", "10.0.0.1", 9443, func(pod *corev1.Pod) { delete(pod.Labels, "app.kubernetes.io/component") })},
			[]relay.Agent{},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)
			for _, pod := range test.pods {
				stripped, err := stripPod(pod)
				require.NoError(t, err)
				require.NoError(t, indexer.Add(stripped))
			}
			require.Equal(t, test.want, findAgents(listers.NewPodLister(indexer)))
		})
	}
}

// TestStrippedPods keep nothing that costs memory.
func TestStrippedPods(t *testing.T) {
	stripped, err := stripPod(agentPod("a", "node1", "10.0.0.1", 9443, func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{"a": "b"}
		pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
		pod.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	}))
	require.NoError(t, err)
	pod := stripped.(*corev1.Pod)
	require.Empty(t, pod.Annotations)
	require.Empty(t, pod.ManagedFields)
	require.Empty(t, pod.Spec.Volumes)
	tombstone, err := stripPod(cache.DeletedFinalStateUnknown{Key: "x"})
	require.NoError(t, err)
	require.Equal(t, cache.DeletedFinalStateUnknown{Key: "x"}, tombstone)
}
