// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// logsOptions are the flags of session logs.
type logsOptions struct {
	sessionTarget
	run       runOptions
	follow    bool
	since     time.Duration
	sinceTime string
	tail      int64
}

func newSessionLogs(g gadgets, stop context.Context, streams Streams) *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use: "logs NAME", Short: "Show what a trace session has recorded on all nodes", Args: named(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := o.complete(cmd.Flags()); err != nil {
				return err
			}
			if err := o.prepare(cmd.Context(), stop, g, names[0]); err != nil {
				return err
			}
			return runGadget(cmd.Context(), stop, &o.run, streams)
		},
		ValidArgsFunction: completeSessions(&o.sessionTarget),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on with what is being recorded")
	flags.DurationVar(&o.since, "since", 0, "only records that are not older than this: 5s, 2m, 3h (0: all)")
	flags.StringVar(&o.sinceTime, "since-time", "", "only records made after this time: 2026-11-05T10:00:00Z")
	flags.Int64Var(&o.tail, "tail", -1, "at most this many of the last records of all nodes, of a table readings (-1: all)")
	flags.StringVarP(&o.run.output, "output", "o", "columns", "columns, wide, json, yaml or none")
	flags.StringSliceVar(&o.run.fields, "fields", nil, "fields to show, in this order")
	flags.StringVar(&o.run.filter, "filter", "", "show only records for which this CEL expression over the fields is true")
	flags.DurationVar(&o.run.timeout, "timeout", 0, "end after this time (0: never)")
	flags.Uint64Var(&o.run.maxEvents, "max-events", 0, "end after this many events (0: never)")
	flags.BoolVar(&o.run.failOnLoss, "fail-on-loss", false, "exit with status 1 if anything was lost")
	flags.BoolVarP(&o.run.verbose, "verbose", "v", false, "say what is used on each node")
	o.add(flags)
	completeCluster(cmd)
	return cmd
}

// complete checks what can be checked without the session.
func (o *logsOptions) complete(flags *pflag.FlagSet) error {
	var err error
	if o.run.mode, err = print.ParseMode(o.run.output); err != nil {
		return usagef("--output: %v", err)
	}
	if o.since < 0 || o.tail < -1 || o.run.timeout < 0 {
		return usagef("--since and --timeout can't be negative, nor --tail, but for -1, which is all")
	}
	o.run.attach = &wire.Attach{Follow: o.follow}
	switch {
	case o.sinceTime != "" && flags.Changed("since"):
		return usagef("--since and --since-time say the same: give one of them")
	case o.sinceTime != "":
		at, err := time.Parse(time.RFC3339Nano, o.sinceTime)
		if err != nil || at.Unix() < 0 {
			return usagef("--since-time is %q, want a time such as 2026-11-05T10:00:00Z", o.sinceTime)
		}
		o.run.attach.Since = at.UnixNano()
	case o.since > 0:
		o.run.attach.Since = max(time.Now().Add(-o.since).UnixNano(), 0)
	}
	o.run.tail = o.tail
	return nil
}

// prepare finds the session and the gadget whose records it has.
func (o *logsOptions) prepare(ctx, stop context.Context, g gadgets, name string) error {
	ask, cancel := context.WithTimeout(stop, askTimeout)
	defer cancel()
	c, err := o.open()
	if err != nil {
		return err
	}
	s, err := c.get(ask, name)
	if err != nil {
		return err
	}
	if s.broken == nil && !hasStream(s.spec.Output) {
		return fmt.Errorf("session %s keeps nothing that could be read: its spec.output has no stream", c.object(name))
	}
	o.run.cluster = o.sessionTarget.cluster
	if o.run.spec, err = o.gadget(ctx, g, s.spec.Gadget.Name); err != nil {
		return err
	}
	attach := o.run.attach
	attach.Name, attach.Uid = name, string(s.meta.UID)
	if c.kind.cluster {
		// The others would have to be waited for, to say that they have nothing.
		o.run.selection.nodes = s.spec.Selector.NodeNames
	} else {
		attach.Namespace = c.namespace
	}
	// Readings of a table are as long as they are: which are the last, only we can tell.
	if o.tail >= 0 && o.run.spec.Source.Kind == gadget.Events && o.run.filter == "" {
		attach.Tail = uint64(max(o.tail, 1))
	}
	o.run.nothing = fmt.Sprintf("no node has recorded anything of it: the session is %s", s.phase())
	return nil
}

// gadget is what is known of the session's gadget: nothing, if only agents know it that
// don't answer. What it really is comes with the records.
func (o *logsOptions) gadget(ctx context.Context, g gadgets, name string) (*gadget.Spec, error) {
	spec, err := g.suitable(ctx, &o.run.cluster, name, func(spec *gadget.Spec) error {
		return (&runOptions{spec: spec, mode: o.run.mode, fields: o.run.fields, filter: o.run.filter}).checkFields()
	})
	if spec == nil {
		return &gadget.Spec{Name: name}, nil
	}
	return spec, err
}
