// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/print"
)

// listOptions are the flags of session list.
type listOptions struct {
	sessionTarget
	all    bool
	output string
}

func newSessionList(stop context.Context, streams Streams) *cobra.Command {
	o := &listOptions{}
	cmd := &cobra.Command{
		Use: "list", Short: "List trace sessions", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := context.WithTimeout(stop, askTimeout)
			defer cancel()
			return o.run(ctx, streams)
		},
	}
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "sessions of all namespaces, and ClusterTraceSessions")
	cmd.Flags().StringVarP(&o.output, "output", "o", "columns", "columns, wide, name, json or yaml")
	o.add(cmd.Flags())
	completeCluster(cmd)
	return cmd
}

func (o *listOptions) run(ctx context.Context, streams Streams) error {
	if !slices.Contains([]string{"columns", "wide", "name", "json", "yaml"}, o.output) {
		return usagef("--output is %q, want columns, wide, name, json or yaml", o.output)
	}
	c, err := o.open()
	if err != nil {
		return err
	}
	if o.all && !o.whole {
		c.namespace = ""
	}
	sessions, err := c.list(ctx)
	if err != nil {
		return err
	}
	if o.all && !o.whole {
		more, err := (&sessionClient{api: c.api, kind: clusterSessions}).list(ctx)
		if err != nil {
			fmt.Fprintln(streams.Err, print.Escape(err.Error()))
		}
		sessions = append(sessions, more...)
	}
	slices.SortStableFunc(sessions, func(a, b traceSession) int {
		return cmp.Or(cmp.Compare(a.meta.Namespace, b.meta.Namespace), cmp.Compare(a.meta.Name, b.meta.Name))
	})
	return printSessions(streams, c, sessions, o.output)
}

func printSessions(streams Streams, c *sessionClient, sessions []traceSession, output string) error {
	switch output {
	case "json", "yaml":
		return printObjects(streams.Out, output, sessions)
	case "name":
		for i := range sessions {
			s := &sessions[i]
			fmt.Fprintln(streams.Out, print.Escape(strings.ToLower(s.raw.GetKind())+".nodegadget.dev/"+s.meta.Name))
		}
		return nil
	}
	if len(sessions) == 0 {
		fmt.Fprintf(streams.Err, "there are no %s %s\n", c.kind.resource, print.Escape(c.where()))
		return nil
	}
	return printSessionTable(streams.Out, sessions, output == "wide")
}

func printSessionTable(w io.Writer, sessions []traceSession, wide bool) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	titles := []string{"NAMESPACE", "NAME", "GADGET", "PHASE", "NODES", "EVENTS", "LOST", "AGE"}
	if wide {
		titles = append(titles, "EXPIRES", "GAPS", "OUTPUTS", "FILTER", "MESSAGE")
	}
	fmt.Fprintln(table, strings.Join(titles, "\t"))
	for i := range sessions {
		cells := sessions[i].cells()
		if wide {
			cells = append(cells, sessions[i].more()...)
		}
		for j := range cells {
			cells[j] = known(print.Escape(cells[j]))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

func (s *traceSession) cells() []string {
	nodes := s.status.Nodes
	return []string{
		s.meta.Namespace, s.meta.Name, gadgetTitle(s.spec.Gadget.Name), s.phase(), fmt.Sprintf("%d/%d", nodes.Running, nodes.Desired),
		fmt.Sprint(s.status.Events), fmt.Sprint(s.status.Lost), age(s.meta.CreationTimestamp),
	}
}

// more are the cells of the wide table.
func (s *traceSession) more() []string {
	expires := ""
	if at := s.status.ExpiresAt; at != nil {
		expires = "in " + duration.HumanDuration(time.Until(at.Time))
		if time.Now().After(at.Time) {
			expires = "expired"
		}
	}
	return []string{expires, fmt.Sprint(s.status.Gaps), strings.Join(outputNames(s.spec.Output), ","), s.spec.Filter, s.trouble()}
}

func outputNames(output v1alpha1.Output) []string {
	var names []string
	for _, o := range []struct {
		name  string
		given bool
	}{
		{"stream", hasStream(output)}, {"file", output.File != nil}, {"otlp", output.OTLP != nil}, {"metrics", output.Metrics != nil},
	} {
		if o.given {
			names = append(names, o.name)
		}
	}
	return names
}

// hasStream says whether the session can be read: if there is no other output, too.
func hasStream(output v1alpha1.Output) bool {
	return output.Stream != nil || output.File == nil && output.OTLP == nil && output.Metrics == nil
}

// trouble is what is wrong with the session, empty if nothing is known to be.
func (s *traceSession) trouble() string {
	if s.broken != nil {
		return s.broken.Error()
	}
	for _, condition := range s.status.Conditions {
		bad := condition.Type == v1alpha1.ConditionAccepted && condition.Status == metav1.ConditionFalse ||
			condition.Type == v1alpha1.ConditionDegraded && condition.Status == metav1.ConditionTrue
		if bad {
			return condition.Message
		}
	}
	return ""
}

func age(at metav1.Time) string {
	if at.IsZero() {
		return ""
	}
	return duration.HumanDuration(time.Since(at.Time))
}
