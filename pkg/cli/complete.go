// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/cluster"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// lookupTimeout bounds the questions to a cluster for completing a word: nobody
// waits longer for a tabulator.
const lookupTimeout = 2 * time.Second

// clusterNames are the flags whose values a cluster knows.
var clusterNames = map[string]cluster.Names{
	"namespace": cluster.Namespaces, "gadget-namespace": cluster.Namespaces,
	"podname": cluster.Pods, "containername": cluster.Containers, "node": cluster.Nodes,
	"context": cluster.Contexts, "cluster": cluster.Clusters, "user": cluster.Users,
}

// completeRun completes a gadget's flags and their values: fields, enum parameters,
// modes, and what the cluster has.
func completeRun(spec func() (*gadget.Spec, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		s, err := spec()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		opts := &runOptions{spec: s}
		flags, clusters := opts.flagSets()
		flags.AddFlagSet(clusters)
		if flag, before, value := openFlag(flags, args, word); flag != nil {
			if before == "" {
				args = args[:len(args)-1] // The flag itself, which has no value yet.
			}
			return completeValue(cmd.Context(), s, flag, args, before, value)
		}
		var names []string
		flags.VisitAll(func(f *pflag.Flag) {
			if name := "--" + f.Name; strings.HasPrefix(name, word) {
				names = append(names, name+"\t"+f.Usage)
			}
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// openFlag is the flag whose value is being typed, what of the word stands before
// the value ("--node="), and the value so far. It is nil if a flag's name is typed.
func openFlag(flags *pflag.FlagSet, args []string, word string) (flag *pflag.Flag, before, value string) {
	if name, value, ok := strings.Cut(word, "="); ok && strings.HasPrefix(name, "--") {
		return flags.Lookup(name[2:]), name + "=", value
	}
	if len(args) == 0 || strings.Contains(args[len(args)-1], "=") {
		return nil, "", word
	}
	name, long := strings.CutPrefix(args[len(args)-1], "--")
	switch {
	case long:
		flag = flags.Lookup(name)
	case len(name) == 2 && name[0] == '-':
		flag = flags.ShorthandLookup(name[1:])
	}
	if flag == nil || flag.NoOptDefVal != "" {
		return nil, "", word // A switch takes no value.
	}
	return flag, "", word
}

// completeValue lists the values of a flag. Of a list, the last item is completed.
func completeValue(ctx context.Context, spec *gadget.Spec, flag *pflag.Flag, args []string, before, value string) ([]string, cobra.ShellCompDirective) {
	known, ok := valuesOf(ctx, spec, flag.Name, args)
	if !ok {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list := strings.LastIndex(value, ",") + 1
	var names []string
	for _, name := range known {
		if strings.HasPrefix(name, value[list:]) {
			names = append(names, before+value[:list]+name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// valuesOf lists the values that are known for a flag; ok is false if it takes what
// nobody can list.
func valuesOf(ctx context.Context, spec *gadget.Spec, flag string, args []string) (values []string, ok bool) {
	if p, ok := spec.Param(flag); ok {
		return enumNames(p), p.Kind == gadget.Enum
	}
	switch flag {
	case "fields":
		return append(fieldNames(spec), print.OriginNames(&spec.Source)...), true
	case "sort":
		return fieldNames(spec), true
	case "output":
		return []string{"columns", "wide", "json", "yaml", "none"}, true
	}
	kind, ok := clusterNames[flag]
	if !ok {
		return nil, false
	}
	return lookUp(ctx, args, kind), true
}

// lookUp asks the cluster for names. What goes wrong is nothing to complete.
func lookUp(ctx context.Context, args []string, kind cluster.Names) []string {
	t, selected, err := clusterTarget(args)
	if err != nil {
		return nil
	}
	opened, err := t.cluster.open()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	namespaces := selected.namespaces
	if selected.allNamespaces {
		namespaces = []string{""}
	}
	names, err := opened.List(ctx, kind, namespaces)
	if err != nil {
		return nil
	}
	for i := range names {
		names[i] = print.Escape(names[i])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// completeCluster completes the values of a command's flags for clusters.
func completeCluster(cmd *cobra.Command) {
	for flag, kind := range clusterNames {
		if cmd.Flags().Lookup(flag) == nil {
			continue
		}
		// It is an error to do so twice, or for a flag that isn't there.
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			var args []string
			cmd.Flags().Visit(func(f *pflag.Flag) { args = append(args, "--"+f.Name+"="+f.Value.String()) })
			return lookUp(cmd.Context(), args, kind), cobra.ShellCompDirectiveNoFileComp
		})
	}
}
