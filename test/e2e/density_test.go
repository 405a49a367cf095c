// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// densePods is how many pods testDensity has on a node at the same time.
	densePods = 100
	// maxResident is what an agent may use then, in bytes.
	maxResident = 50 << 20
)

// testDensity fills a node. Every pod is told from the others, and the agent stays small.
func testDensity(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	node := s.Nodes[0]
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	begin := time.Now()
	for i := range densePods {
		name := fmt.Sprintf("dense-%03d", i)
		_, err := s.Client.CoreV1().Pods(namespace).Create(t.Context(),
			workload(name, node.Name, "/bin/true "+name+"; exec sleep 1000"), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	tr.awaitFor(manyPatience, densePods, func(e line) bool { return e.Comm == "true" })
	eventuallyIn(t, manyPatience, func() error {
		pods, err := s.Client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err == nil && len(pods.Items) < densePods {
			err = fmt.Errorf("%d pods run", len(pods.Items))
		}
		return err
	})
	note("%d pods run on %s after %.0f s", densePods, node.Name, time.Since(begin).Seconds())
	tr.stop()
	tr.requireNoLoss()
	for i := range densePods {
		name := fmt.Sprintf("dense-%03d", i)
		events := tr.all(marked(name))
		require.Len(t, events, 1, name)
		require.Equal(t, []string{node.Name, name, "main"}, []string{events[0].Node, events[0].Pod, events[0].Container})
	}
	size := s.agentMemory(t, 0)
	note("the agent has %.1f MB resident", float64(size)/1e6)
	require.LessOrEqual(t, size, int64(maxResident))
	s.clear(t, namespace)
}

var resident = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// agentMemory is how much memory the agent of a node has resident, in bytes.
func (s *suite) agentMemory(t *testing.T, node int) int64 {
	t.Helper()
	pids, err := s.Nodes[node].Find("gadget-agent")
	require.NoError(t, err)
	require.Len(t, pids, 1)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
	require.NoError(t, err)
	match := resident.FindSubmatch(text)
	require.NotNil(t, match, string(text))
	size, err := strconv.ParseInt(string(match[1]), 10, 64)
	require.NoError(t, err)
	return size << 10
}
