// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testStatus wants every node to be listed with what is known of it.
func testStatus(t *testing.T, s *suite) {
	text := s.run(t, "status")
	t.Logf("\n%s", text)
	for _, n := range s.Nodes {
		require.Regexp(t, `(?m)^`+n.Name+`\s.*in-kernel`, text)
	}
	require.Contains(t, text, "containerd")
}

// testPlugin lets kubectl find the plugin, as users call it.
func testPlugin(t *testing.T, s *suite) {
	bin, err := filepath.Abs(programs)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), s.Options.Hyperkube, "kubectl", "gadget", "status")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "PATH="+bin)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), s.Nodes[1].Name)
}

// testDoctor wants a verdict on every node.
func testDoctor(t *testing.T, s *suite) {
	text := s.run(t, "doctor")
	t.Logf("\n%s", text)
	for _, n := range s.Nodes {
		require.Contains(t, text, n.Name)
	}
}

// maxFirst is how long users may wait from the command to the first event.
const maxFirst = 1500 * time.Millisecond

// testFirstEvent measures that, at its best of some times: the machine does more than
// this.
func testFirstEvent(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	for _, n := range s.Nodes {
		s.start(t, namespace, ticking("tick-"+n.Name, n.Name))
	}
	best := time.Hour
	for range 3 {
		tr := s.traceAs(t, s.Kubeconfig, "trace", "exec", "-A")
		for _, n := range s.Nodes {
			tr.await(1, func(e line) bool { return e.Node == n.Name && e.Namespace == namespace })
		}
		best = min(best, time.Since(tr.begun))
		tr.stop()
	}
	note("first events of all nodes after %.2f s", best.Seconds())
	require.Less(t, best, maxFirst)
}
