// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/print"
)

func newSessionDescribe(stop context.Context, streams Streams) *cobra.Command {
	t := &sessionTarget{}
	cmd := &cobra.Command{
		Use: "describe NAME...", Short: "Show what a trace session does, and how it is doing", Args: named(0),
		RunE: func(_ *cobra.Command, names []string) error {
			ctx, cancel := context.WithTimeout(stop, askTimeout)
			defer cancel()
			c, err := t.open()
			if err != nil {
				return err
			}
			for i, name := range names {
				s, err := c.get(ctx, name)
				if err != nil {
					return err
				}
				if i > 0 {
					fmt.Fprintln(streams.Out)
				}
				if err := s.describe(streams.Out); err != nil {
					return err
				}
			}
			return nil
		},
		ValidArgsFunction: completeSessions(t),
	}
	t.add(cmd.Flags())
	completeCluster(cmd)
	return cmd
}

// page writes the lines of a description.
type page struct{ table *tabwriter.Writer }

// line writes a value behind its name, if there is one.
func (p page) line(name, value string) {
	if value != "" {
		fmt.Fprintf(p.table, "%s:\t%s\n", name, print.Escape(value))
	}
}

// rows writes a table of its own.
func (p page) rows(title string, titles []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	// What stands in it doesn't move what stands before.
	_ = p.table.Flush()
	fmt.Fprintf(p.table, "%s:\n  %s\n", title, strings.Join(titles, "\t"))
	for _, row := range rows {
		for i := range row {
			row[i] = known(print.Escape(row[i]))
		}
		fmt.Fprintf(p.table, "  %s\n", strings.Join(row, "\t"))
	}
	_ = p.table.Flush()
}

func (s *traceSession) describe(w io.Writer) error {
	p := page{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	p.line("Name", s.meta.Name)
	p.line("Namespace", s.meta.Namespace)
	p.line("Kind", s.raw.GetKind())
	p.line("Created", moment(&s.meta.CreationTimestamp))
	p.line("Gadget", gadgetTitle(s.spec.Gadget.Name))
	if s.broken != nil {
		// What was read of it might be taken for the whole.
		p.line("Unreadable", s.broken.Error())
		text, err := json.Marshal(s.raw.Object["spec"])
		if err != nil {
			return err
		}
		p.line("Spec", string(text))
	} else {
		p.line("Parameters", pairs(s.spec.Params))
		p.line("Filter", s.spec.Filter)
		s.describeSelection(p)
		s.describeOptions(p)
	}
	s.describeStatus(p)
	return p.table.Flush()
}

func (s *traceSession) describeSelection(p page) {
	selector := s.spec.Selector
	if s.raw.GetKind() == clusterSessions.name {
		p.line("Namespaces", allOr(selector.Namespaces))
		p.line("Nodes", allOr(selector.NodeNames))
		if selector.Host {
			p.line("Host", "processes outside of containers too")
		}
	}
	pods := selector.PodNames
	if selector.PodSelector != nil {
		pods = append([]string{metav1.FormatLabelSelector(selector.PodSelector)}, pods...)
	}
	p.line("Pods", allOr(pods))
	p.line("Containers", allOr(selector.ContainerNames))
}

func (s *traceSession) describeOptions(p page) {
	if s.spec.Interval != nil {
		p.line("Interval", s.spec.Interval.Duration.String())
	}
	if s.spec.BufferSize != nil {
		p.line("Buffer", s.spec.BufferSize.String())
	}
	p.line("Output", strings.Join(outputTexts(s.spec.Output), "; "))
	if s.spec.TTL != nil {
		p.line("TTL", s.spec.TTL.Duration.String())
	}
	if s.spec.Suspend {
		p.line("Suspended", "yes: go on with kubectl gadget session resume")
	}
}

// outputTexts says where records go, with what was said about it.
func outputTexts(output v1alpha1.Output) []string {
	var texts []string
	if hasStream(output) {
		text := "stream, the default number of records"
		if stream := output.Stream; stream != nil && stream.Retain > 0 {
			text = fmt.Sprintf("stream, %d records of each node", stream.Retain)
		}
		if stream := output.Stream; stream != nil && stream.RetainBytes != nil {
			text += fmt.Sprintf(" in at most %s", stream.RetainBytes)
		}
		texts = append(texts, text)
	}
	if output.File != nil {
		texts = append(texts, "file on each node")
	}
	if output.OTLP != nil {
		texts = append(texts, "otlp to "+output.OTLP.Endpoint)
	}
	if output.Metrics != nil {
		texts = append(texts, strings.TrimSuffix("metrics by pod, "+strings.Join(output.Metrics.Labels, ", "), ", "))
	}
	return texts
}

func (s *traceSession) describeStatus(p page) {
	status := &s.status
	p.line("Phase", s.phase())
	if status.ObservedGeneration != s.meta.Generation {
		p.line("Seen", "not yet: what follows is about the spec before the last change")
	}
	p.line("Nodes", fmt.Sprintf("%d running of %d, %d failed", status.Nodes.Running, status.Nodes.Desired, status.Nodes.Failed))
	p.line("Events", thousands(uint64(max(status.Events, 0))))
	p.line("Lost", thousands(uint64(max(status.Lost, 0))))
	p.line("Started", moment(status.StartTime))
	p.line("Expires", moment(status.ExpiresAt))
	p.line("Completed", moment(status.CompletionTime))
	p.line("Deleted", moment(s.meta.DeletionTimestamp))
	if status.Gaps > 0 {
		p.line("Gaps", gaps(status))
	}
	var rows [][]string
	for _, c := range status.Conditions {
		rows = append(rows, []string{c.Type, string(c.Status), c.Reason, moment(&c.LastTransitionTime), c.Message})
	}
	p.rows("Conditions", []string{"TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"}, rows)
	rows = nil
	for _, f := range status.Failures {
		rows = append(rows, []string{f.Node, f.Reason, f.Message})
	}
	p.rows("Failures", []string{"NODE", "REASON", "MESSAGE"}, rows)
	rows = nil
	for _, o := range status.Outputs {
		rows = append(rows, []string{o.Name, fmt.Sprint(o.Written), fmt.Sprint(o.Dropped), fmt.Sprint(o.FailingNodes), o.Error})
	}
	p.rows("Outputs", []string{"NAME", "WRITTEN", "DROPPED", "FAILING NODES", "ERROR"}, rows)
}

func gaps(status *v1alpha1.SessionStatus) string {
	text := fmt.Sprint(status.Gaps)
	if gap := status.LastGap; gap != nil {
		text += fmt.Sprintf(", the last one on %s from %s to %s", gap.Node, moment(&gap.From), moment(&gap.To))
	}
	return text
}

// moment is a time; empty if there is none.
func moment(at *metav1.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

func allOr(names []string) string {
	if len(names) == 0 {
		return "all"
	}
	return strings.Join(names, ", ")
}

func pairs(params map[string]string) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		texts = append(texts, name+"="+params[name])
	}
	return strings.Join(texts, ", ")
}
