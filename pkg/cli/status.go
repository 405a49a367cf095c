// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// askTimeout bounds a question to all nodes. The relay bounds each node's answer by
// less than that.
const askTimeout = 30 * time.Second

// nodeStatus is what status shows of a node. Its texts are safe to print.
type nodeStatus struct {
	Node         string   `json:"node"`
	Error        string   `json:"error,omitempty"`
	Kernel       string   `json:"kernel,omitempty"`
	Arch         string   `json:"arch,omitempty"`
	Distribution string   `json:"distribution,omitempty"`
	Cgroup       string   `json:"cgroup,omitempty"`
	BTF          string   `json:"btf,omitempty"`
	BTFReason    string   `json:"btfReason,omitempty"`
	Agent        string   `json:"agent,omitempty"`
	Started      string   `json:"started,omitempty"`
	Runtime      string   `json:"runtime,omitempty"`
	Stale        bool     `json:"stale,omitempty"`
	Unsupported  []string `json:"unsupported,omitempty"`
	// Old agents don't count.
	*counters
}

type counters struct {
	Runs         uint32 `json:"runs"`
	Events       uint64 `json:"events"`
	Lost         uint64 `json:"lost"`
	Unresolved   uint64 `json:"unresolved"`
	Containers   uint32 `json:"containers"`
	Resident     uint64 `json:"residentBytes"`
	KernelMemory uint64 `json:"kernelBytes"`
}

func newNodeStatus(report *wire.NodeReport) nodeStatus {
	info := report.GetInfo()
	node, status := info.GetNode(), info.GetStatus()
	s := nodeStatus{
		Node: print.Escape(report.GetName()), Error: print.Escape(report.GetError()),
		Kernel: print.Escape(node.GetKernel()), Arch: print.Escape(node.GetArch()), Distribution: print.Escape(node.GetDistribution()),
		Cgroup: print.Escape(node.GetCgroup()), BTF: print.Escape(node.GetBtfSource()), BTFReason: print.Escape(node.GetBtf()),
		Agent: print.Escape(info.GetAgentVersion()), Runtime: print.Escape(status.GetRuntime()),
		Stale: status.GetStale(),
	}
	if status != nil {
		loss := status.GetLoss()
		s.counters = &counters{
			Runs: status.GetRuns(), Events: status.GetRecords(), Lost: loss.GetKernel() + loss.GetQueue() + loss.GetRelay(),
			Unresolved: loss.GetUnresolved(), Containers: status.GetContainers(),
			Resident: status.GetResident(), KernelMemory: status.GetKernelMemory(),
		}
	}
	if started := status.GetStarted(); started > 0 {
		s.Started = time.Unix(0, started).UTC().Format(time.RFC3339)
	}
	for _, name := range status.GetUnsupported() {
		s.Unsupported = append(s.Unsupported, print.Escape(name))
	}
	return s
}

func newStatus(stop context.Context, streams Streams) *cobra.Command {
	t := &target{}
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Show the nodes: kernel, types, agent, runs, losses", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			response, err := t.nodes(stop)
			if err != nil {
				return err
			}
			var nodes []nodeStatus
			for _, report := range response.GetNodes() {
				nodes = append(nodes, newNodeStatus(report))
			}
			slices.SortFunc(nodes, func(a, b nodeStatus) int { return cmp.Compare(a.Node, b.Node) })
			switch output {
			case "", "columns", "wide":
				err = printStatus(streams.Out, nodes, output == "wide")
			default:
				err = printDocument(streams.Out, output, nodes)
			}
			return errors.Join(err, noneAnswers(response))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "columns", "columns, wide, json or yaml")
	t.addAll(cmd.Flags())
	completeCluster(cmd)
	return cmd
}

// nodes asks for the state of the target's nodes.
func (t *target) nodes(stop context.Context) (*wire.NodesResponse, error) {
	ctx, cancel := context.WithTimeout(stop, askTimeout)
	defer cancel()
	if err := t.check(); err != nil {
		return nil, err
	}
	conn, closeConn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn()
	return conn.Nodes(ctx)
}

// noneAnswers is the error of a cluster in which nobody does.
func noneAnswers(response *wire.NodesResponse) error {
	if len(response.GetNodes()) == 0 {
		return errors.New("no node has an agent: see kubectl get daemonset nodegadget-agent in the namespace of nodegadget")
	}
	for _, report := range response.GetNodes() {
		if report.GetInfo() != nil {
			return nil
		}
	}
	return errors.New("no agent answers")
}

func printStatus(w io.Writer, nodes []nodeStatus, wide bool) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	titles := []string{"NODE", "KERNEL", "ARCH", "BTF", "AGENT", "RUNTIME", "RUNS", "EVENTS", "LOST", "CONTAINERS"}
	if wide {
		titles = append(titles, "UNRESOLVED", "MEMORY", "KERNEL MEMORY", "CGROUP", "DISTRIBUTION", "STARTED", "CAN'T RUN", "BTF REASON")
	}
	fmt.Fprintln(table, strings.Join(titles, "\t"))
	for i := range nodes {
		cells := nodes[i].cells(wide)
		if wide {
			cells = append(cells, nodes[i].more()...)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	// The reasons are too long for a table.
	for _, n := range nodes {
		if n.Error != "" {
			fmt.Fprintf(w, "\n%s doesn't answer: %s\n", n.Node, n.Error)
		}
		if n.BTF == string(kernel.None) {
			fmt.Fprintf(w, "\n%s can't run gadgets: %s\n", n.Node, n.BTFReason)
		}
		if n.Stale {
			fmt.Fprintf(w, "\n%s: what is known of pods may be out of date\n", n.Node)
		}
	}
	return nil
}

func (n *nodeStatus) cells(wide bool) []string {
	runtime := n.Runtime
	if !wide {
		runtime = brief(runtime)
	}
	cells := []string{n.Node, known(n.Kernel), known(n.Arch), known(cmp.Or(n.BTF, n.BTFReason)), known(n.Agent), known(runtime)}
	if n.counters == nil {
		return append(cells, "-", "-", "-", "-")
	}
	return append(cells, fmt.Sprint(n.Runs), fmt.Sprint(n.Events), fmt.Sprint(n.Lost), fmt.Sprint(n.Containers))
}

// more are the cells of the wide table.
func (n *nodeStatus) more() []string {
	cells := []string{"-", "-", "-"}
	if n.counters != nil {
		cells = []string{fmt.Sprint(n.Unresolved), fmt.Sprint(n.Resident), fmt.Sprint(n.KernelMemory)}
	}
	return append(cells, known(n.Cgroup), known(n.Distribution), known(n.Started), known(strings.Join(n.Unsupported, ",")), known(n.BTFReason))
}

// brief is a runtime without its socket, or a problem with it without the reason.
func brief(runtime string) string {
	runtime, _, _ = strings.Cut(runtime, " at /")
	runtime, _, _ = strings.Cut(runtime, ": ")
	return runtime
}

// known is the text, or a dash for none.
func known(text string) string { return cmp.Or(text, "-") }
