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
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// examineTimeout bounds doctor's question to all nodes, which load every gadget. The
// relay gives each of them 30 seconds, and the others are shown if one takes longer.
const examineTimeout = 45 * time.Second

// severities are the words for wire.Finding's.
var severities = map[uint32]string{wire.SeverityFine: "fine", wire.SeverityRestricted: "restricted", wire.SeverityBroken: "doesn't work"}

// nodeFindings is what doctor shows of a node. Its texts are safe to print.
type nodeFindings struct {
	Node     string    `json:"node"`
	Error    string    `json:"error,omitempty"`
	Findings []finding `json:"findings"`
}

type finding struct {
	Gadget   string `json:"gadget,omitempty"`
	Severity string `json:"severity"`
	Problem  string `json:"problem,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
	level    uint32
}

func newNodeFindings(report *wire.NodeReport) nodeFindings {
	n := nodeFindings{Node: print.Escape(report.GetName()), Error: print.Escape(report.GetError()), Findings: []finding{}}
	for _, f := range report.GetDoctor().GetFindings() {
		n.Findings = append(n.Findings, finding{
			Gadget: print.Escape(strings.Replace(f.GetGadget(), "_", " ", 1)), Severity: cmp.Or(severities[f.GetSeverity()], "unknown"),
			Problem: print.Escape(f.GetProblem()), Remedy: print.Escape(f.GetRemedy()), level: f.GetSeverity(),
		})
	}
	// The worst first, and what concerns the whole node before single gadgets.
	slices.SortStableFunc(n.Findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(b.level, a.level), cmp.Compare(a.Gadget, b.Gadget))
	})
	return n
}

// problemsError says on how many nodes a gadget can't run, or nobody can tell. What
// runs with a restriction isn't a problem: on most kernels something does.
type problemsError struct{ nodes, all int }

func (e *problemsError) Error() string {
	return fmt.Sprintf("there are problems on %d of %d nodes", e.nodes, e.all)
}

// newProblemsError is nil if there are no problems.
func newProblemsError(all []nodeFindings) error {
	e := &problemsError{all: len(all)}
	for _, n := range all {
		broken := func(f finding) bool { return f.level >= wire.SeverityBroken }
		if n.Error != "" || slices.ContainsFunc(n.Findings, broken) {
			e.nodes++
		}
	}
	if e.nodes == 0 {
		return nil
	}
	return e
}

func newDoctor(stop context.Context, streams Streams) *cobra.Command {
	t := &target{}
	var output string
	var nodes []string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what stands in the way of which gadget, and how to mend it", Args: noArguments,
		Long: "Say what stands in the way of which gadget, and how to mend it.\n\n" +
			"The exit status is 3 if a gadget can't run on a node, or a node doesn't answer. Gadgets that\nrun with a restriction leave it at 0.",
		RunE: func(*cobra.Command, []string) error {
			response, err := t.doctor(stop, nodes)
			if err != nil {
				return err
			}
			var all []nodeFindings
			for _, report := range response.GetNodes() {
				all = append(all, newNodeFindings(report))
			}
			slices.SortFunc(all, func(a, b nodeFindings) int { return cmp.Compare(a.Node, b.Node) })
			if output == "" || output == "text" {
				err = printFindings(streams.Out, all)
			} else {
				err = printDocument(streams.Out, output, all)
			}
			if err := errors.Join(err, noneAnswers(response)); err != nil {
				return err
			}
			return newProblemsError(all)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	cmd.Flags().StringSliceVar(&nodes, "node", nil, "names of the nodes to examine (default: all)")
	t.addAll(cmd.Flags())
	completeCluster(cmd)
	return cmd
}

// addAll adds the target's own flags and those for clusters.
func (t *target) addAll(flags *pflag.FlagSet) {
	flags.SortFlags = false
	t.add(flags)
	t.cluster.add(flags)
}

func (t *target) doctor(stop context.Context, nodes []string) (*wire.NodesResponse, error) {
	ctx, cancel := context.WithTimeout(stop, examineTimeout)
	defer cancel()
	if err := t.check(); err != nil {
		return nil, err
	}
	conn, closeConn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn()
	return conn.Doctor(ctx, nodes)
}

func printFindings(w io.Writer, all []nodeFindings) error {
	var b strings.Builder
	for _, n := range all {
		switch groups := n.groups(); {
		case n.Error != "":
			fmt.Fprintf(&b, "node %s doesn't answer: %s\n", n.Node, n.Error)
		case len(groups) == 0:
			fmt.Fprintf(&b, "node %s: nothing stands in the way of any gadget\n", n.Node)
		default:
			fmt.Fprintf(&b, "node %s:\n", n.Node)
			for _, group := range groups {
				group.print(&b)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// findingGroup are findings that are mended in the same way.
type findingGroup []finding

// groups are the findings that aren't fine, by their remedies, in the order of the
// first of each.
func (n *nodeFindings) groups() []findingGroup {
	var groups []findingGroup
	for _, f := range n.Findings {
		if f.level == wire.SeverityFine {
			continue
		}
		at := slices.IndexFunc(groups, func(g findingGroup) bool { return g[0].Remedy == f.Remedy })
		if at < 0 {
			at = len(groups)
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], f)
	}
	return groups
}

// print writes a line for each problem, with the gadgets that have it, and one for
// the remedy.
func (g findingGroup) print(b *strings.Builder) {
	for i, f := range g {
		same := func(o finding) bool { return o.level == f.level && o.Problem == f.Problem }
		if slices.ContainsFunc(g[:i], same) {
			continue
		}
		var gadgets []string
		for _, o := range g[i:] {
			if same(o) && o.Gadget != "" {
				gadgets = append(gadgets, o.Gadget)
			}
		}
		fmt.Fprintf(b, "  %s: ", f.Severity)
		if len(gadgets) > 0 {
			fmt.Fprintf(b, "%s: ", strings.Join(gadgets, ", "))
		}
		fmt.Fprintln(b, f.Problem)
	}
	if g[0].Remedy != "" {
		fmt.Fprintf(b, "    to mend it: %s\n", g[0].Remedy)
	}
}
