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
		opts := &runOptions{gadget: s.Name}
		flags := opts.flagSet(s)
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, pflag.ErrHelp) {
				return printHelp(streams, cmd, s, flags)
			}
			return usagef("%v (see: %s --help)", err, cmd.CommandPath())
		}
		if flags.NArg() > 0 {
			return usagef("%s takes no arguments, given: %q", cmd.CommandPath(), flags.Arg(0))
		}
		if err := opts.complete(s, flags); err != nil {
			return err
		}
		return runGadget(cmd.Context(), stop, opts, streams)
	}
	if s, err := spec(); err == nil {
		cmd.Short = print.Escape(s.Description)
	}
	cmd.ValidArgsFunction = completeRun(spec)
	return cmd
}

// flagSet has the flags of every run and one for each parameter of the gadget.
func (o *runOptions) flagSet(spec *gadget.Spec) *pflag.FlagSet {
	flags := pflag.NewFlagSet(spec.Name, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {} // Help is printed by printHelp.
	flags.BoolVar(&o.local, "local", false, "trace this machine, without a cluster")
	flags.StringVar(&o.agent, "agent", "", "trace the machine of the agent at this address (unix:///path)")
	flags.StringVar(&o.btf, "btf", "", "BTF of this kernel: a file, a directory, a bundle, or the URL of a BTF service (with --local)")
	flags.StringVarP(&o.output, "output", "o", "columns", "columns, wide, json, yaml or none")
	flags.StringSliceVar(&o.fields, "fields", nil, "fields to show, in this order")
	flags.StringVar(&o.filter, "filter", "", "CEL expression over the fields: comm == \"cat\" && errno != 0")
	if spec.Source.Kind != gadget.Events {
		flags.StringSliceVar(&o.sort, "sort", nil, "fields to sort by; -field for descending")
		flags.IntVar(&o.maxEntries, "max-entries", 0, "most rows of an interval that are shown (0: all)")
		flags.DurationVar(&o.interval, "interval", 0, intervalHelp(spec.Source.Kind))
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
	for _, p := range spec.Params {
		if flags.Lookup(p.Name) != nil {
			continue
		}
		o.params[p.Name] = addParam(flags, p)
	}
	return flags
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

func printHelp(streams Streams, cmd *cobra.Command, spec *gadget.Spec, flags *pflag.FlagSet) error {
	_, err := fmt.Fprintf(streams.Out, "%s\n\nUsage:\n  %s [flags]\n\nFlags:\n%s\nFields: %s\n",
		print.Escape(spec.Description), cmd.CommandPath(), flags.FlagUsages(), strings.Join(fieldNames(spec), ", "))
	return err
}

// completeRun completes flags' names and values: fields, enum parameters, modes.
func completeRun(spec func() (*gadget.Spec, error)) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		s, err := spec()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		if len(args) > 0 {
			switch flag := args[len(args)-1]; flag {
			case "--fields", "--sort":
				return fieldNames(s), cobra.ShellCompDirectiveNoFileComp
			case "-o", "--output":
				return []string{"columns", "wide", "json", "yaml", "none"}, cobra.ShellCompDirectiveNoFileComp
			default:
				if p, ok := s.Param(strings.TrimPrefix(flag, "--")); ok && p.Kind == gadget.Enum {
					return enumNames(p), cobra.ShellCompDirectiveNoFileComp
				}
			}
		}
		var names []string
		(&runOptions{}).flagSet(s).VisitAll(func(f *pflag.Flag) {
			if name := "--" + f.Name; strings.HasPrefix(name, word) {
				names = append(names, name+"\t"+f.Usage)
			}
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
