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

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// severities are the words for wire.Finding's.
var severities = map[uint32]string{1: "fine", 2: "restricted", 3: "doesn't work"}

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

func newDoctor(stop context.Context, streams Streams) *cobra.Command {
	t := &target{}
	var output string
	var nodes []string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what stands in the way of which gadget, and how to mend it", Args: noArguments,
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
			return errors.Join(err, noneAnswers(response))
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
	return conn.Doctor(ctx, nodes)
}

func printFindings(w io.Writer, all []nodeFindings) error {
	var b strings.Builder
	for _, n := range all {
		if n.Error != "" {
			fmt.Fprintf(&b, "node %s doesn't answer: %s\n", n.Node, n.Error)
			continue
		}
		bad := 0
		for _, f := range n.Findings {
			if f.level != 1 {
				bad++
			}
		}
		if bad == 0 {
			fmt.Fprintf(&b, "node %s: nothing stands in the way of any gadget\n", n.Node)
			continue
		}
		fmt.Fprintf(&b, "node %s:\n", n.Node)
		for _, f := range n.Findings[:bad] {
			fmt.Fprintf(&b, "  %s: %s\n", f.Severity, strings.Join(slices.DeleteFunc([]string{f.Gadget, f.Problem}, empty), ": "))
			if f.Remedy != "" {
				fmt.Fprintf(&b, "    to mend it: %s\n", f.Remedy)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func empty(text string) bool { return text == "" }
