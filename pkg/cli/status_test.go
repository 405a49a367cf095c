// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// threeNodes are a new one, an old one, and one that doesn't answer.
func threeNodes() *wire.NodesResponse {
	return &wire.NodesResponse{Protocol: wire.Current(), RelayVersion: "v1.2.0", Nodes: []*wire.NodeReport{
		{Name: "node3", Error: "no answer within 5s\x1b[2J"},
		{
			Name: "node1",
			Info: &wire.InfoResponse{
				Protocol: wire.Current(), AgentVersion: "v1.2.0",
				Node: &wire.Node{
					Name: "node1", Kernel: "6.1.0-56-amd64", Arch: "x86_64", Btf: "in-kernel: /sys/kernel/btf/vmlinux", BtfSource: "in-kernel",
					Cgroup: "v2", Distribution: "Debian GNU/Linux 12\x1b",
				},
				Status: &wire.Status{
					Started: 1700000000e9, Runs: 2, Records: 12345, Loss: &wire.Loss{Kernel: 1, Queue: 2, Unresolved: 3},
					Containers: 17, Runtime: "containerd v2.4.2 at /run/containerd/containerd.sock", Resident: 40 << 20, KernelMemory: 3 << 20, Unsupported: []string{"trace_x"}, Stale: true,
				},
			},
			Doctor: &wire.DoctorResponse{Findings: []*wire.Finding{
				{Severity: 1, Problem: "BTF: in-kernel"},
				{Gadget: "trace_exec", Severity: 2, Problem: "arguments are cut\nafter 4 KiB", Remedy: "use a kernel from 5.8 on"},
				{Severity: 3, Problem: "no \x1b[2J"},
				{Gadget: "trace_open", Severity: 2, Problem: "arguments are cut\nafter 4 KiB", Remedy: "use a kernel from 5.8 on"},
				{Gadget: "trace_bind", Severity: 3, Problem: "no such hook", Remedy: "use a kernel from 5.8 on"},
			}},
		},
		{
			Name:   "node2",
			Info:   &wire.InfoResponse{Protocol: &wire.Version{Major: 1}, AgentVersion: "v1.0.0", Node: &wire.Node{Name: "node2", Kernel: "5.10", Arch: "x86_64", Btf: "bundle"}},
			Doctor: &wire.DoctorResponse{Findings: []*wire.Finding{{Severity: 1}}},
		},
	}}
}

func TestStatus(t *testing.T) {
	f := &fakeRelay{nodes: threeNodes()}
	for _, mode := range []string{"columns", "wide", "json", "yaml"} {
		r := callCluster(t, f, "status", "-o", mode)
		require.Zero(t, r.status, r.err)
		golden(t, "status-"+mode+".txt", r.out)
		require.NotContains(t, r.out, "\x1b")
		var nodes []map[string]any
		switch mode {
		case "json":
			require.NoError(t, json.Unmarshal([]byte(r.out), &nodes))
			require.Equal(t, "v2", nodes[0]["cgroup"])
		case "yaml":
			require.NoError(t, yaml.Unmarshal([]byte(r.out), &nodes))
			require.EqualValues(t, 3, nodes[0]["lost"])
		}
	}
	r := callCluster(t, f, "status", "-o", "xml")
	require.Equal(t, 2, r.status)
}

func TestStatusSaysWhyANodeHasNoBTF(t *testing.T) {
	node := &wire.Node{Name: "node1", Kernel: "4.19", BtfSource: "none", Btf: "kernel 4.19: no BTF (tried a bundle: not in it)"}
	f := &fakeRelay{nodes: &wire.NodesResponse{Nodes: []*wire.NodeReport{{Name: "node1", Info: &wire.InfoResponse{Node: node}}}}}
	r := callCluster(t, f, "status")
	require.Zero(t, r.status, r.err)
	require.Contains(t, r.out, "\nnode1 can't run gadgets: kernel 4.19: no BTF (tried a bundle: not in it)\n")
}

func TestStatusWithoutAnAnswerFails(t *testing.T) {
	for want, nodes := range map[string][]*wire.NodeReport{
		"kubectl-gadget: no agent answers\n":                      {{Name: "node1", Error: "no answer"}, {Name: "node2", Error: "no answer"}},
		"kubectl-gadget: no node has an agent: see kubectl get d": nil,
	} {
		for _, command := range []string{"status", "doctor"} {
			r := callCluster(t, &fakeRelay{nodes: &wire.NodesResponse{Nodes: nodes}}, command)
			require.Equal(t, 1, r.status)
			require.Contains(t, r.err, want)
		}
	}
}

func TestDoctor(t *testing.T) {
	f := &fakeRelay{nodes: threeNodes()}
	for _, mode := range []string{"text", "json", "yaml"} {
		r := callCluster(t, f, "doctor", "-o", mode, "--node", "node1,node2")
		require.Equal(t, 3, r.status, r.err)
		require.Equal(t, "kubectl-gadget: there are problems on 2 of 3 nodes\n", r.err)
		golden(t, "doctor-"+mode+".txt", r.out)
		require.NotContains(t, r.out, "\x1b")
	}
	require.Equal(t, []string{"node1", "node2"}, f.asked)
}

func TestDoctorsVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		report *wire.NodeReport
		want   int
	}{
		"all is well":                 {examined(1), 0},
		"restrictions":                {examined(1, 2, 2), 0},
		"something doesn't work":      {examined(1, 2, 3), 3},
		"worse than is known here":    {examined(4), 3},
		"a node that doesn't answer":  {&wire.NodeReport{Error: "there is no agent on this node"}, 3},
		"a node that answers in part": {&wire.NodeReport{Info: &wire.InfoResponse{}, Error: "no answer within 30s"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			test.report.Name = "node2"
			well := examined(1, 2)
			well.Name = "node1"
			r := callCluster(t, &fakeRelay{nodes: &wire.NodesResponse{Nodes: []*wire.NodeReport{test.report, well}}}, "doctor", "-o", "json")
			require.Equal(t, test.want, r.status, r.err)
			var nodes []map[string]any
			require.NoError(t, json.Unmarshal([]byte(r.out), &nodes))
			require.Len(t, nodes, 2)
			if test.want == 0 {
				require.Empty(t, r.err)
			}
		})
	}
}

// examined is the report of a node with findings of these severities.
func examined(severities ...uint32) *wire.NodeReport {
	report := &wire.NodeReport{Info: &wire.InfoResponse{}, Doctor: &wire.DoctorResponse{}}
	for _, severity := range severities {
		report.Doctor.Findings = append(report.Doctor.Findings, &wire.Finding{Gadget: "trace_exec", Severity: severity})
	}
	return report
}

func TestVersion(t *testing.T) {
	f := &fakeRelay{nodes: threeNodes()}
	r := callCluster(t, f, "version")
	require.Zero(t, r.status, r.err)
	golden(t, "version.txt", r.out)
	f.nodes.Nodes = f.nodes.Nodes[1:2]
	f.nodes.Nodes = append(f.nodes.Nodes, f.nodes.Nodes[0])
	r = callCluster(t, f, "version")
	require.Contains(t, r.out, "agent: v1.2.0 (protocol 1.2) on all 2 nodes\n")
	r = call(t, "version", "--client")
	require.Zero(t, r.status, r.err)
	require.Regexp(t, `^client: \S+ \(protocol 1\.2\)\n$`, r.out)
	r = call(t, "version")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.out, "client: ")
}

func TestOneAgentHasAStatusToo(t *testing.T) {
	address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}})
	r := call(t, "status", "--agent", address)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.err, "asking the agent: ")
}
