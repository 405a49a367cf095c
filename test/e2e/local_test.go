// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testLocal traces pods of a node on the node itself, past the cluster: who can't reach the
// API server any more can still see what happens in a pod.
func testLocal(t *testing.T, s *suite) {
	namespace, node := s.namespace(t), s.Nodes[0]
	for _, name := range []string{"cart", "bank"} {
		s.start(t, namespace, ticking(name, node.Name))
	}
	plugin, err := filepath.Abs(filepath.Join(programs, "kubectl-gadget"))
	require.NoError(t, err)
	out, err := node.Exec(t.Context(), plugin, "trace", "exec", "--local", "-n", namespace, "-p", "cart",
		"--max-events", "10", "--timeout", "30s", "-o", "json")
	require.NoError(t, err)
	seen := 0
	for text := range strings.Lines(out) {
		var e line
		require.NoError(t, json.Unmarshal([]byte(text), &e), text)
		require.Equal(t, []string{node.Name, namespace, "cart", "main"}, []string{e.Node, e.Namespace, e.Pod, e.Container}, text)
		require.NotEmpty(t, e.Image, text)
		seen++
	}
	require.Equal(t, 10, seen)

	_, err = node.Exec(t.Context(), plugin, "trace", "exec", "--local", "-A", "--runtime-socket", "/run/nobody.sock", "--max-events", "1", "--timeout", "10s")
	require.NoError(t, err, "a runtime that isn't there costs names, not events")
}
