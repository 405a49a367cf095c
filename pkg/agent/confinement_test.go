// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/wire"
)

func TestConfinement(t *testing.T) {
	for _, test := range []struct {
		name         string
		first, inPod bool
		pid          int
		want, remedy string
	}{
		{"this machine", true, false, 4711, "", ""},
		{"a pod with hostPID", true, true, 4711, "", ""},
		{"a pod without", false, true, 1, "not the node's other processes", "agent.hostPID=true"},
		{"a pod with hostPID, of a node that is a container", false, true, 4711, "", ""},
		{"a container", false, false, 4711, "not the machine's others", "--pid=host"},
		{"a container of one process", false, false, 1, "not the machine's others", "--pid=host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := confinementOf(test.first, test.inPod, test.pid)
			if test.want == "" {
				require.Zero(t, got)
				return
			}
			require.Contains(t, got.problem, test.want)
			require.Contains(t, got.remedy, test.remedy)
		})
	}
}

// TestConfinedAgentSaysSo to those whose gadget visits tasks, and to nobody else.
func TestConfinedAgentSaysSo(t *testing.T) {
	n := newTestNode(t, Options{})
	defer n.endSessions()
	n.agent.confined = confinementOf(false, true, 1)
	said := []string{n.agent.confined.problem + "; " + n.agent.confined.remedy}

	snapshot := n.watch(&wire.Start{Gadget: "snapshot_process"})
	require.NoError(t, <-snapshot.done)
	require.Equal(t, said, snapshot.notices)
	exec := n.watch(&wire.Start{Gadget: "trace_exec"})
	exec.stop()
	require.Empty(t, exec.notices)

	// Whoever reads a session is told as well.
	once := execs("shop", "once")
	once.Spec.Gadget.Name, once.Spec.Params = "snapshot_process", nil
	n.sessionsOf(once)
	n.awaitState("once", in(wire.SessionState_STOPPED, 1))
	for range 2 {
		reader := n.watch(&wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "once"}})
		require.NoError(t, <-reader.done)
		require.Equal(t, said, reader.notices)
	}

	response, err := n.client.Doctor(t.Context(), &wire.DoctorRequest{})
	require.NoError(t, err)
	for _, f := range response.GetFindings() {
		if f.GetGadget() != "snapshot_process" {
			require.NotContains(t, f.GetProblem(), n.agent.confined.problem)
			continue
		}
		require.EqualValues(t, wire.SeverityRestricted, f.GetSeverity())
		require.Equal(t, "attached as iter=iter; "+n.agent.confined.problem, f.GetProblem())
		require.Equal(t, n.agent.confined.remedy, f.GetRemedy())
	}
	require.Empty(t, n.agent.unsupported())
}
