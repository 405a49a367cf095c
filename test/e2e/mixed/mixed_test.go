// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMixed runs all tests, in this order: each may rely on what those before it have
// shown.
func TestMixed(t *testing.T) {
	if reason := missing(); reason != "" {
		t.Skip(reason)
	}
	s := &suite{Cluster: shared}
	s.startGuests(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Nodes", testNodes},
		{"Pods", testPods},
		{"Bundle", testBundle},
		{"NoBundle", testNoBundle},
		{"Uninstall", testUninstall},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// testNodes shows that the nodes differ as the other tests take them to.
func testNodes(t *testing.T, s *suite) {
	list, err := s.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	var names []string
	kernels := map[string]string{}
	for _, n := range list.Items {
		names = append(names, n.Name)
		info := n.Status.NodeInfo
		kernels[info.KernelVersion] = n.Name
		t.Logf("%s: %s, kubelet %s, %s, Linux %s", n.Name, info.OSImage, info.KubeletVersion, info.ContainerRuntimeVersion, info.KernelVersion)
	}
	require.ElementsMatch(t, s.nodes(), names)
	require.Len(t, kernels, 3, "kernels of the nodes")
	for _, g := range s.guests {
		types, err := g.Exec(t.Context(), "ls", "/sys/kernel")
		require.NoError(t, err)
		require.Equal(t, g.Name == typed, strings.Contains(types, "btf"), "%s has types: %s", g.Name, types)
		cgroups, err := g.Exec(t.Context(), "cat", "/proc/self/cgroup")
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(cgroups, "0::/"), "%s has not only cgroup v2: %s", g.Name, cgroups)
	}
}

// testPods shows that each node runs pods, which reach the API server and each other's
// services.
func testPods(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	const script = "nslookup kubernetes.default.svc.cluster.local; until nc -w 5 10.96.0.1 443 </dev/null; do sleep 1; done"
	for _, node := range s.nodes() {
		s.create(t, namespace, workload(podOf(node), node, script))
	}
	for _, node := range s.nodes() {
		pod := s.awaitPhase(t, namespace, podOf(node), corev1.PodSucceeded, corev1.PodFailed)
		logs := s.logs(t, namespace, pod.Name)
		require.Equal(t, corev1.PodSucceeded, pod.Status.Phase, logs)
		require.Contains(t, logs, "10.96.0.1", "%s finds no service by name", node)
	}
}
