// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// addRunCommands adds a command for each verb and below it one for each noun.
// Each gadget's object is read for the line that describes its command.
func addRunCommands(root *cobra.Command, g gadgets, stop context.Context, streams Streams) {
	verbs := map[string]*cobra.Command{}
	for _, name := range g.names {
		verb, noun, _ := strings.Cut(name, "_")
		if verbs[verb] == nil {
			verbs[verb] = &cobra.Command{
				Use: verb, Short: "Gadgets that " + verb, Args: unknownCommand,
				RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
			}
			knowRunFlags(verbs[verb].Flags())
		}
		verbs[verb].AddCommand(newRunCommand(name, noun, g, stop, streams))
	}
	for _, verb := range slices.Sorted(maps.Keys(verbs)) {
		root.AddCommand(verbs[verb])
	}
}

// newRunCommand makes a gadget's command. Its flags are known only when the
// gadget is, so it parses them itself.
func newRunCommand(name, noun string, g gadgets, stop context.Context, streams Streams) *cobra.Command {
	cmd := &cobra.Command{Use: noun, DisableFlagParsing: true}
	spec := func() (*gadget.Spec, error) { return g.spec(name) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := spec()
		if err != nil {
			return err
		}
		opts, err := parseRun(cmd, s, args, streams)
		var usage *client.UsageError
		if errors.As(err, &usage) {
			// The cluster's agents may be newer, and their gadget have what this one lacks.
			if newer := clusterSpec(cmd.Context(), args, s); newer != nil {
				opts, err = parseRun(cmd, newer, args, streams)
			}
		}
		if err != nil || opts == nil {
			return err
		}
		if opts.detached.detach {
			return opts.make(stop, streams)
		}
		return runGadget(cmd.Context(), stop, opts, streams)
	}
	if s, err := spec(); err == nil {
		cmd.Short = print.Escape(s.Description)
	}
	cmd.ValidArgsFunction = completeRun(spec)
	return cmd
}

// parseRun makes options of a command's arguments; none if they ask for help, which
// it prints.
func parseRun(cmd *cobra.Command, spec *gadget.Spec, args []string, streams Streams) (*runOptions, error) {
	opts := &runOptions{spec: spec}
	flags, clusters := opts.flagSets()
	all := pflag.NewFlagSet(spec.Name, pflag.ContinueOnError)
	all.Usage = func() {} // Help is printed by printHelp.
	all.AddFlagSet(flags)
	all.AddFlagSet(clusters)
	if err := all.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, printHelp(streams, cmd, spec, flags, clusters)
		}
		return nil, usagef("%v (see: %s --help)", err, cmd.CommandPath())
	}
	if all.NArg() > 0 {
		return nil, usagef("%s takes no arguments, given: %q", cmd.CommandPath(), all.Arg(0))
	}
	return opts, opts.complete(all)
}

// flagSets has the flags of every run and one for each parameter of the gadget, and
// apart from them kubectl's own flags for the cluster.
func (o *runOptions) flagSets() (flags, clusters *pflag.FlagSet) {
	flags = pflag.NewFlagSet(o.spec.Name, pflag.ContinueOnError)
	flags.SortFlags = false
	o.target.add(flags)
	flags.StringVarP(&o.output, "output", "o", "columns", "columns, wide, json, yaml or none")
	flags.StringSliceVar(&o.fields, "fields", nil, "fields to show, in this order")
	flags.StringVar(&o.filter, "filter", "", "CEL expression over the fields: comm == \"cat\" && errno != 0")
	if kind := o.spec.Source.Kind; kind != gadget.Events {
		flags.StringSliceVar(&o.sort, "sort", nil, "fields to sort by; -field for descending")
		flags.IntVar(&o.maxEntries, "max-entries", 0, "most rows of an interval that are shown (0: all)")
		flags.DurationVar(&o.interval, "interval", 0, intervalHelp(kind))
	} else {
		flags.Var((*byteSize)(&o.bufferSize), "buffer-size", "size of the kernel's event buffer: 4Mi, 512Ki, bytes")
		flags.BoolVar(&o.perfBuffer, "perf-buffer", false, "use a perf buffer even if the kernel has ring buffers")
	}
	flags.DurationVar(&o.timeout, "timeout", 0, "end after this time (0: never)")
	flags.Uint64Var(&o.maxEvents, "max-events", 0, "end after this many events (0: never)")
	flags.BoolVar(&o.failOnLoss, "fail-on-loss", false, "exit with status 1 if anything was lost")
	flags.StringToStringVar(&o.alternatives, "alternative", nil, "demand a hook: group=name, see inspect")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "say what is used, and show the verifier's whole log")
	o.params = map[string]*pflag.Flag{}
	for _, p := range o.spec.Params {
		if flags.Lookup(p.Name) == nil {
			o.params[p.Name] = addParam(flags, p)
		}
	}
	selection, cluster := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	selection.SortFlags = false
	o.selection.add(selection)
	o.detached.add(selection)
	o.cluster.add(cluster)
	addFree(flags, selection, flags)
	clusters = pflag.NewFlagSet("", pflag.ContinueOnError)
	addFree(clusters, cluster, flags)
	return flags, clusters
}

func intervalHelp(kind gadget.SourceKind) string {
	if kind == gadget.Table {
		return "time between two readings (default 1s)"
	}
	return "time between two snapshots (0: one snapshot only)"
}

// paramValue is a flag whose text the gadget's parameter checks.
type paramValue struct {
	param gadget.Param
	text  string
}

func (v *paramValue) String() string { return v.text }

func (v *paramValue) Set(text string) error {
	if _, err := v.param.Encode(text, byteOrder); err != nil {
		return err
	}
	v.text = text
	return nil
}

func (v *paramValue) Type() string {
	switch {
	case v.param.List:
		return "list"
	case v.param.Kind == gadget.Enum:
		return "name"
	}
	return v.param.Kind.String()
}

func addParam(flags *pflag.FlagSet, p gadget.Param) *pflag.Flag {
	usage := print.Escape(p.Doc)
	if p.Kind == gadget.Enum {
		usage += ": " + strings.Join(enumNames(p), ", ")
	}
	flag := flags.VarPF(&paramValue{param: p, text: p.Default}, p.Name, "", usage)
	flag.DefValue = print.Escape(p.Default)
	if p.Kind == gadget.Bool {
		flag.NoOptDefVal = "true"
	}
	return flag
}

func enumNames(p gadget.Param) []string {
	var names []string
	for _, v := range p.Values {
		names = append(names, print.Escape(v.Name))
	}
	return names
}

func printHelp(streams Streams, cmd *cobra.Command, spec *gadget.Spec, flags, clusters *pflag.FlagSet) error {
	_, err := fmt.Fprintf(streams.Out, "%s\n\nUsage:\n  %s [flags]\n\nFlags:\n%s\nFlags for clusters, as kubectl has them:\n%s\nFields: %s\n",
		print.Escape(spec.Description), cmd.CommandPath(), flags.FlagUsages(), clusters.FlagUsages(), strings.Join(fieldNames(spec), ", "))
	return err
}
