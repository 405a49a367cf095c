// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sys/unix"
)

// from is events of pods of that name.
func from(pod string) func(line) bool { return func(e line) bool { return e.Pod == pod } }

// awaitMore wants events of each pod that come from now on.
func (tr *trace) awaitMore(pods ...string) {
	tr.t.Helper()
	for _, pod := range pods {
		tr.await(len(tr.all(from(pod)))+5, from(pod))
	}
}

// tickOnEachNode starts a pod on each node and returns their names.
func (s *suite) tickOnEachNode(t *testing.T, namespace string) []string {
	t.Helper()
	var names []string
	for _, n := range s.Nodes {
		names = append(names, "tick-"+n.Name)
		s.start(t, namespace, ticking("tick-"+n.Name, n.Name))
	}
	return names
}

// testAgentKilled kills an agent during a trace. The other node's events go on, and
// the node's own come again.
func testAgentKilled(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	pods := s.tickOnEachNode(t, namespace)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	tr.awaitMore(pods...)
	pids, err := s.Nodes[0].Find("gadget-agent")
	require.NoError(t, err)
	require.Len(t, pids, 1)
	require.NoError(t, s.Nodes[0].Signal(pids[0], unix.SIGKILL))
	killed := time.Now()
	tr.awaitMore(pods[1])
	require.Less(t, time.Since(killed), 5*time.Second, "the other node must not wait")
	tr.awaitMore(pods[0])
	note("events of %s again after %.1f s", s.Nodes[0].Name, time.Since(killed).Seconds())
	tr.stop()
	require.Contains(t, tr.said.String(), s.Nodes[0].Name, "the node is named")
}

// testAgentDeleted deletes an agent's pod during a trace.
func testAgentDeleted(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	pods := s.tickOnEachNode(t, namespace)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	tr.awaitMore(pods...)
	agents, err := s.Client.CoreV1().Pods(installed).List(t.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=agent", FieldSelector: "spec.nodeName=" + s.Nodes[1].Name,
	})
	require.NoError(t, err)
	require.Len(t, agents.Items, 1)
	require.NoError(t, s.Client.CoreV1().Pods(installed).Delete(t.Context(), agents.Items[0].Name, metav1.DeleteOptions{}))
	tr.awaitMore(pods[0])
	s.awaitGone(t, installed, agents.Items[0].Name)
	tr.awaitMore(pods...)
	tr.stop()
}

// outage is how long the API server is away.
const outage = time.Minute

// testAPIServerAway has no API server for a while during a trace. The plugin can't
// reach the relay meanwhile; afterwards it shows all that has happened.
func testAPIServerAway(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	for _, n := range s.Nodes {
		s.start(t, namespace, workload("count-"+n.Name, n.Name,
			"i=0; while true; do i=$((i+1)); /bin/true count-$i; usleep 500000; done"))
	}
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	tr.awaitMore("count-node1", "count-node2")
	t.Cleanup(func() { require.NoError(t, s.APIServer.Start()) })
	// Without notice, after which kube-proxy would take another minute to find it again.
	require.NoError(t, s.APIServer.Kill())
	time.Sleep(outage)
	require.NoError(t, s.APIServer.Start())
	require.NoError(t, s.AwaitAPIServer(t.Context()))
	back := time.Now()
	tr.awaitMore("count-node1", "count-node2")
	note("events again %.1f s after the API server", time.Since(back).Seconds())
	tr.stop()
	tr.requireNoLoss()
	for _, n := range s.Nodes {
		requireCounted(t, tr, "count-"+n.Name)
	}
	require.NoError(t, s.RestartWatchers())
}

// requireCounted wants a pod's numbers without a gap.
func requireCounted(t *testing.T, tr *trace, pod string) {
	t.Helper()
	events := tr.all(func(e line) bool { return e.Pod == pod && e.Comm == "true" })
	var first int
	_, err := fmt.Sscanf(events[0].Args[1], "count-%d", &first)
	require.NoError(t, err, events[0])
	for i, e := range events {
		require.Equal(t, fmt.Sprintf("count-%d", first+i), e.Args[1])
	}
	t.Logf("%s: counted from %d to %d", pod, first, first+len(events)-1)
}

// testContainerdRestarts restarts the container runtime of each node. Where the
// controller is, that breaks the plugin's connection, which comes back.
func testContainerdRestarts(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	pods := s.tickOnEachNode(t, namespace)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	tr.awaitMore(pods...)
	controller := s.controllerNode(t)
	for _, node := range s.Nodes {
		t.Cleanup(func() { require.NoError(t, node.Containerd.Start()) })
		require.NoError(t, node.Containerd.Stop())
		if node.Name != controller {
			tr.awaitMore(pods...)
		}
		require.NoError(t, node.Containerd.Start())
		require.NoError(t, node.AwaitContainerd(t.Context()))
		mark := "after-" + node.Name
		s.start(t, namespace, workload(mark, node.Name, "/bin/true "+mark+"; sleep 1000"))
		e := tr.await(1, marked(mark))[0]
		require.Equal(t, []string{node.Name, mark, "main"}, []string{e.Node, e.Pod, e.Container}, e)
		tr.awaitMore(pods...)
	}
	tr.stop()
	tr.requireNoLoss()
	require.Empty(t, tr.all(func(e line) bool { return !strings.HasPrefix(e.Pod, "tick-") && !strings.HasPrefix(e.Pod, "after-") }))
}

// controllerNode is the node that the controller runs on.
func (s *suite) controllerNode(t *testing.T) string {
	t.Helper()
	pods, err := s.Client.CoreV1().Pods(installed).List(t.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=controller",
	})
	require.NoError(t, err)
	require.Len(t, pods.Items, 1)
	return pods.Items[0].Spec.NodeName
}
