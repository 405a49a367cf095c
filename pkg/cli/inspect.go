// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

func newCatalog(g gadgets, streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "catalog", Short: "List the gadgets", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if g.err != nil {
				return g.err
			}
			table := tabwriter.NewWriter(streams.Out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(table, "GADGET\tRECORDS\tDESCRIPTION")
			for _, name := range g.names {
				spec, err := g.spec(name)
				if err != nil {
					return err
				}
				fmt.Fprintf(table, "%s %s\t%s\t%s\n", spec.Verb(), spec.Noun(), spec.Source.Kind, print.Escape(spec.Description))
			}
			return table.Flush()
		},
	}
	cmd.Flags().String("agent", "", "list the gadgets of the agent at this address (unix:///path)")
	return cmd
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, given: %q", cmd.CommandPath(), args[0])
	}
	return nil
}

func newInspect(g gadgets, streams Streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "inspect VERB NOUN", Short: "Show a gadget's fields, parameters, hooks and needs",
		RunE: func(_ *cobra.Command, args []string) error {
			spec, err := findSpec(g, args)
			if err != nil {
				return err
			}
			switch output {
			case "json":
				return json.NewEncoder(streams.Out).Encode(spec)
			case "text":
				return inspect(streams.Out, spec)
			}
			return usagef("--output is %q, want text or json", output)
		},
		ValidArgs: g.names,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().String("agent", "", "ask the agent at this address (unix:///path)")
	return cmd
}

// findSpec takes "trace exec", "trace_exec" or "trace exec" in one argument.
func findSpec(g gadgets, args []string) (*gadget.Spec, error) {
	name := strings.ReplaceAll(strings.Join(args, "_"), " ", "_")
	if name == "" {
		return nil, usagef("say which gadget to inspect, for example: inspect trace exec")
	}
	if g.err != nil {
		return nil, g.err
	}
	spec, err := g.spec(name)
	if err != nil {
		return nil, unknownf("%v", err)
	}
	return spec, nil
}

func inspect(w io.Writer, spec *gadget.Spec) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "%s %s: %s\n", spec.Verb(), spec.Noun(), print.Escape(spec.Description))
	fmt.Fprintf(table, "records: %s\n\n", spec.Source.Kind)
	fmt.Fprintln(table, "FIELD\tTYPE\tSHOWN\tMEANING")
	for _, c := range event.NewSchema(spec.Source, event.Options{}).Columns {
		shown := "columns"
		switch {
		case c.Raw:
			shown = "json"
		case c.Hidden:
			shown = "wide"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", print.Escape(c.Name), c.Kind, shown, print.Escape(c.Doc))
	}
	fmt.Fprintln(table, "\nPARAMETER\tTYPE\tDEFAULT\tMEANING")
	for _, p := range spec.Params {
		kind := (&paramValue{param: p}).Type()
		fmt.Fprintf(table, "--%s\t%s\t%s\t%s\n", print.Escape(p.Name), kind, print.Escape(p.Default), print.Escape(p.Doc))
	}
	for _, group := range spec.Groups {
		inspectGroup(table, &group)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", withoutKernelBTF(spec))
	return err
}

// withoutKernelBTF says what is left of the gadget on kernels without their own BTF.
func withoutKernelBTF(spec *gadget.Spec) string {
	const kernels = "Kernels without in-kernel BTF"
	missing := spec.NeedsKernelBTF()
	if len(missing) == 0 {
		return kernels + ": runs, with the first hooks that don't need it."
	}
	return fmt.Sprintf("%s: can't run there, every hook of %s needs it.", kernels, print.Escape(strings.Join(missing, ", ")))
}

func inspectGroup(w io.Writer, group *gadget.Group) {
	note := "one of these"
	if group.Optional() {
		note = "one of these, or none"
	}
	fmt.Fprintf(w, "\nHOOK %s: %s\tPROGRAM\tIF\tNEEDS\n", print.Escape(group.Name), note)
	for _, alternative := range group.Alternatives {
		for i, p := range alternative.Programs {
			name := ""
			if i == 0 {
				name = fmt.Sprintf("%d. %s", alternative.Rank, print.Escape(alternative.Name))
			}
			condition := ""
			switch {
			case p.When != "":
				condition = "--" + print.Escape(p.When)
			case p.Optional:
				condition = "if there"
			}
			var needs []string
			for _, n := range p.Needs() {
				needs = append(needs, n.String())
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, print.Escape(p.Section), condition, strings.Join(needs, ", "))
		}
	}
}
