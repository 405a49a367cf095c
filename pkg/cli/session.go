// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/print"
)

// newSession makes the commands for trace sessions, which are objects of the cluster.
func newSession(g gadgets, stop context.Context, streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "session", Short: "Trace sessions: traces that go on without you", Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	(&sessionTarget{}).add(cmd.Flags())
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	cmd.AddCommand(
		newSessionList(stop, streams), newSessionDescribe(stop, streams), newSessionLogs(g, stop, streams), newSessionCreate(g, stop, streams),
		newSessionSuspend(true, stop, streams), newSessionSuspend(false, stop, streams), newSessionDelete(stop, streams))
	return cmd
}

// sessionTarget says which sessions are meant: those of a namespace, or of none.
type sessionTarget struct {
	cluster   clusterFlags
	namespace string
	// whole means ClusterTraceSessions.
	whole bool
}

// add adds the flags. The kubeconfig's cluster is chosen by --context here, because
// --cluster means what it does in the names of the kinds.
func (t *sessionTarget) add(flags *pflag.FlagSet) {
	flags.StringVarP(&t.namespace, "namespace", "n", "", "namespace of the sessions (default: the kubeconfig's current one)")
	flags.BoolVar(&t.whole, "cluster", false, "ClusterTraceSessions, which are in no namespace")
	more := pflag.NewFlagSet("", pflag.ContinueOnError)
	t.cluster.add(more)
	addFree(flags, more, flags)
}

// open prepares the client for sessions of the target.
func (t *sessionTarget) open() (*sessionClient, error) {
	if t.whole && t.namespace != "" {
		return nil, usagef("--cluster is for sessions that are in no namespace: leave out --namespace")
	}
	opened, err := t.cluster.open()
	if err != nil {
		return nil, err
	}
	c := &sessionClient{kind: namespacedSessions, namespace: t.namespace}
	if c.api, err = opened.Resources(); err != nil {
		return nil, err
	}
	switch {
	case t.whole:
		c.kind = clusterSessions
	case t.namespace == "":
		c.namespace, err = opened.CurrentNamespace()
	}
	return c, err
}

// arguments are the flags by which the user can name the sessions again.
func (c *sessionClient) arguments() string {
	if c.kind.cluster {
		return "--cluster"
	}
	return "-n " + c.namespace
}

// named wants names of sessions, at most so many if that isn't 0.
func named(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("say which session, as in: %s NAME; there are those of: kubectl gadget session list", cmd.CommandPath())
		}
		if most > 0 && len(args) > most {
			return usagef("%s takes one session, given: %q", cmd.CommandPath(), args)
		}
		return nil
	}
}

// completeSessions completes the names of sessions. What goes wrong is nothing to
// complete.
func completeSessions(t *sessionTarget) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), lookupTimeout)
		defer cancel()
		c, err := t.open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		sessions, err := c.list(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for i := range sessions {
			s := &sessions[i]
			if strings.HasPrefix(s.meta.Name, word) && !slices.Contains(args, s.meta.Name) {
				names = append(names, print.Escape(s.meta.Name)+"\t"+print.Escape(fmt.Sprintf("%s, %s", gadgetTitle(s.spec.Gadget.Name), s.phase())))
			}
		}
		slices.Sort(names)
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// gadgetTitle is a gadget's name as its command is written: "trace exec".
func gadgetTitle(name string) string { return strings.Replace(name, "_", " ", 1) }
