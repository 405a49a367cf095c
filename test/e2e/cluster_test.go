// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestCluster runs all tests, in this order: each may rely on what those before it
// have shown, and the last one takes away what the others need.
func TestCluster(t *testing.T) {
	if reason := missing(); reason != "" {
		t.Skip(reason)
	}
	s := &suite{Cluster: shared}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Nodes", testNodes},
		{"Pods", testPods},
		{"QuickStart", testQuickStart},
		{"Deploy", testDeploy},
		{"Status", testStatus},
		{"Plugin", testPlugin},
		{"Doctor", testDoctor},
		{"FirstEvent", testFirstEvent},
		{"Scenarios", testScenarios},
		{"SharedNamespaces", testSharedNamespaces},
		{"KindsOfContainers", testKindsOfContainers},
		{"StaticPod", testStaticPod},
		{"SameName", testSameName},
		{"Restart", testRestart},
		{"Selectors", testSelectors},
		{"Local", testLocal},
		{"LiveLabels", testLiveLabels},
		{"Host", testHost},
		{"Tenants", testTenants},
		{"Roles", testRoles},
		{"SessionGuide", testSessionGuide},
		{"Sessions", testSessions},
		{"AgentKilled", testAgentKilled},
		{"AgentDeleted", testAgentDeleted},
		{"ContainerdRestarts", testContainerdRestarts},
		{"ShortLived", testShortLived},
		{"Density", testDensity},
		{"APIServerAway", testAPIServerAway},
		{"Undeploy", testUndeploy},
	} {
		t.Run(test.name, func(t *testing.T) {
			begin := time.Now()
			test.run(t, s)
			note("%5.1f s  %s", time.Since(begin).Seconds(), test.name)
		})
	}
}

// testNodes shows that the cluster is what the other tests take it for.
func testNodes(t *testing.T, s *suite) {
	list, err := s.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, nodes)
	for i, n := range list.Items {
		require.Equal(t, s.Nodes[i].Name, n.Name)
		info := n.Status.NodeInfo
		note("%s: kubelet %s, %s, Linux %s", n.Name, info.KubeletVersion, info.ContainerRuntimeVersion, info.KernelVersion)
	}
}

// testPods shows that pods of different nodes find each other by name, and reach each
// other through a service.
func testPods(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	server := workload("server", s.Nodes[0].Name, "echo it works > /tmp/index.html; exec httpd -f -p 8080 -h /tmp")
	server.Labels = map[string]string{"app": "server"}
	s.start(t, namespace, server)
	_, err := s.Client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector: server.Labels,
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	client := workload("client", s.Nodes[1].Name, "until wget -q -O - http://web; do usleep 200000; done")
	s.start(t, namespace, client)
	s.awaitPhase(t, namespace, "client", corev1.PodSucceeded)
	logs, err := s.Client.CoreV1().Pods(namespace).GetLogs("client", &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(logs), "it works")
}
