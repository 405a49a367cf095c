// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	operator "k8s.io/apimachinery/pkg/selection"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/session"
)

// detached are the flags of a run that becomes a trace session, and goes on by itself.
type detached struct {
	detach bool
	name   string
	ttl    time.Duration
	retain int64
	dryRun string
	// whole makes a ClusterTraceSession although the selection doesn't need one.
	whole bool
}

// add adds the flags of runs, addSession those that session create has as well.
func (d *detached) add(flags *pflag.FlagSet) {
	flags.BoolVar(&d.detach, "detach", false, "make a trace session of it, which goes on without this command")
	flags.StringVar(&d.name, "name", "", "name of the session (with --detach)")
	d.addSession(flags, " (with --detach)")
}

func (d *detached) addSession(flags *pflag.FlagSet, when string) {
	flags.DurationVar(&d.ttl, "ttl", 0, "end the session after this time: 1h (0: never)"+when)
	flags.Int64Var(&d.retain, "retain", 0, "records that each node keeps for session logs (0: 10000)"+when)
	flags.StringVar(&d.dryRun, "dry-run", "none", "client: only print the session, server: let the API server check it"+when)
	flags.Lookup("dry-run").NoOptDefVal = "client"
}

// notDetached are flags about what is shown, or about a run that somebody looks at.
var notDetached = []string{
	"fields", "sort", "max-entries", "timeout", "max-events", "fail-on-loss", "alternative", "perf-buffer", "verbose", "local", "agent", "btf", "runtime-socket",
}

// names says whether the mode is one that prints names of objects.
func (d *detached) names(mode string) bool { return d.detach && mode == "name" }

// check makes sure that the flags go together.
func (d *detached) check(o *runOptions, flags *pflag.FlagSet) error {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&detached{}).add(own)
	var stray string
	// Who makes sessions by their own command gives all flags for them.
	flags.Visit(func(f *pflag.Flag) {
		_, param := o.params[f.Name]
		if forSessions := own.Lookup(f.Name) != nil; !param && (forSessions && !d.detach || d.detach && slices.Contains(notDetached, f.Name)) {
			stray = f.Name
		}
	})
	switch {
	case stray != "" && !d.detach:
		return usagef("--%s is for a session: give --detach as well", stray)
	case stray != "":
		return usagef("--%s has no meaning for a session that goes on by itself: %s", stray, insteadOf(stray))
	case !d.detach:
		return nil
	case d.ttl < 0 || d.retain < 0:
		return usagef("--ttl and --retain can't be negative")
	case !slices.Contains([]string{"none", "client", "server"}, d.dryRun):
		return usagef("--dry-run is %q, want none, client or server", d.dryRun)
	case o.output == "wide":
		return usagef("--output is %q, want columns, name, json, yaml or none", o.output)
	}
	return d.checkSpec(o)
}

func insteadOf(flag string) string {
	switch flag {
	case "timeout":
		return "see --ttl"
	case "local", "agent", "btf", "runtime-socket":
		return "it is made in a cluster"
	case "alternative", "perf-buffer", "verbose":
		return "leave it out"
	}
	return "give it to kubectl gadget session logs"
}

// checkSpec says before the controller does what the gadget doesn't take.
func (d *detached) checkSpec(o *runOptions) error {
	if o.spec.Source.Kind == gadget.Snapshot && o.interval == 0 {
		return usagef("%s takes a single snapshot: a session needs --interval", gadgetTitle(o.spec.Name))
	}
	if len(o.spec.Source.Fields) == 0 {
		return nil // Only agents know it.
	}
	spec, err := d.spec(o)
	if err != nil {
		return err
	}
	problems := session.Check(&session.Session{Spec: spec.SessionSpec}, o.spec)
	if len(problems) > 0 {
		return usagef("%s", problems[0])
	}
	return nil
}

// spec is what the session of the run does.
func (d *detached) spec(o *runOptions) (v1alpha1.ClusterTraceSessionSpec, error) {
	spec := v1alpha1.ClusterTraceSessionSpec{
		SessionSpec: v1alpha1.SessionSpec{Gadget: v1alpha1.GadgetRef{Name: o.spec.Name}, Params: o.changed, Filter: o.filter},
		Selector: v1alpha1.ClusterSelection{
			PodSelection: v1alpha1.PodSelection{PodNames: o.selection.pods, ContainerNames: o.selection.containers},
			Namespaces:   o.selector.GetNamespaces(), NodeNames: o.selection.nodes, Host: o.selection.host,
		},
	}
	if o.selection.labels != "" {
		var err error
		if spec.Selector.PodSelector, err = labelSelector(o.selection.labels); err != nil {
			return spec, usagef("--selector: %v", err)
		}
	}
	if o.interval > 0 {
		spec.Interval = &metav1.Duration{Duration: o.interval}
	}
	if o.bufferSize > 0 {
		spec.BufferSize = resource.NewQuantity(int64(o.bufferSize), resource.BinarySI)
	}
	if d.ttl > 0 {
		spec.TTL = &metav1.Duration{Duration: d.ttl}
	}
	switch {
	case d.retain > 0:
		spec.Output.Stream = &v1alpha1.StreamOutput{Retain: d.retain}
	case !d.detach:
		spec.Output.Stream = ownStream()
	}
	return spec, nil
}

// operators are those of label selectors in objects, by what kubectl -l has for them.
var operators = map[operator.Operator]metav1.LabelSelectorOperator{
	operator.In: metav1.LabelSelectorOpIn, operator.Equals: metav1.LabelSelectorOpIn, operator.DoubleEquals: metav1.LabelSelectorOpIn,
	operator.NotIn: metav1.LabelSelectorOpNotIn, operator.NotEquals: metav1.LabelSelectorOpNotIn,
	operator.Exists: metav1.LabelSelectorOpExists, operator.DoesNotExist: metav1.LabelSelectorOpDoesNotExist,
}

// labelSelector is a selector as kubectl -l takes it, as objects have it.
func labelSelector(text string) (*metav1.LabelSelector, error) {
	requirements, err := labels.ParseToRequirements(text)
	if err != nil {
		return nil, err
	}
	selector := &metav1.LabelSelector{}
	for _, r := range requirements {
		is, ok := operators[r.Operator()]
		values := r.Values().List()
		_, taken := selector.MatchLabels[r.Key()]
		switch {
		case !ok:
			return nil, fmt.Errorf("a session can't compare by %q", r.Operator())
		case is == metav1.LabelSelectorOpIn && len(values) == 1 && !taken:
			metav1.AddLabelToSelector(selector, r.Key(), values[0])
		default:
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: r.Key(), Operator: is, Values: values})
		}
	}
	return selector, nil
}

// kind is a ClusterTraceSession if more than the pods of one namespace are selected.
func (d *detached) kind(spec *v1alpha1.ClusterTraceSessionSpec) sessionKind {
	selector := &spec.Selector
	if d.whole || len(selector.Namespaces) != 1 || len(selector.NodeNames) > 0 || selector.Host {
		return clusterSessions
	}
	return namespacedSessions
}

// object is the session of the run, and the kind and namespace that it has.
func (d *detached) object(o *runOptions) (*unstructured.Unstructured, sessionKind, error) {
	spec, err := d.spec(o)
	if err != nil {
		return nil, sessionKind{}, err
	}
	if selector := &spec.Selector; !d.detach && len(selector.Namespaces) == 1 && !selector.Host {
		// Who may trace a namespace may do so on some nodes. Only those are read.
		selector.NodeNames = nil
	}
	kind := d.kind(&spec)
	meta := metav1.ObjectMeta{Name: d.name}
	if d.name == "" {
		meta.GenerateName = strings.ReplaceAll(o.spec.Name, "_", "-") + "-"
	}
	var typed any = &v1alpha1.ClusterTraceSession{ObjectMeta: meta, Spec: spec}
	if !kind.cluster {
		meta.Namespace = spec.Selector.Namespaces[0]
		typed = &v1alpha1.TraceSession{ObjectMeta: meta, Spec: v1alpha1.TraceSessionSpec{
			SessionSpec: spec.SessionSpec, Selector: spec.Selector.PodSelection,
		}}
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, kind, fmt.Errorf("making the session: %w", err)
	}
	raw := &unstructured.Unstructured{Object: content}
	raw.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind.name))
	// What Go has no empty value for.
	unstructured.RemoveNestedField(raw.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(raw.Object, "status")
	return raw, kind, nil
}

// make makes the session of the run, or only shows it.
func (o *runOptions) make(stop context.Context, streams Streams) error {
	ctx, cancel := context.WithTimeout(stop, askTimeout)
	defer cancel()
	raw, kind, err := o.detached.object(o)
	if err != nil {
		return err
	}
	c := &sessionClient{kind: kind, namespace: raw.GetNamespace()}
	done := "created"
	if o.detached.dryRun == "client" {
		return printMade(streams, c, raw, o.output, "created (dry run)")
	}
	opened, err := o.cluster.open()
	if err != nil {
		return err
	}
	if c.api, err = opened.Resources(); err != nil {
		return err
	}
	options := metav1.CreateOptions{}
	if o.detached.dryRun == "server" {
		options.DryRun, done = []string{metav1.DryRunAll}, "created (server dry run)"
	}
	created, err := c.create(ctx, raw, options)
	if err != nil {
		return err
	}
	if err := printMade(streams, c, created, o.output, done); err != nil {
		return err
	}
	if o.detached.dryRun != "server" {
		fmt.Fprintln(streams.Err, print.Escape(fmt.Sprintf("read it with: kubectl gadget session logs -f %s %s", created.GetName(), c.arguments())))
	}
	return nil
}

// printMade shows what was made.
func printMade(streams Streams, c *sessionClient, raw *unstructured.Unstructured, output, done string) error {
	name := raw.GetName()
	if name == "" {
		name = raw.GetGenerateName()
	}
	switch output {
	case "json", "yaml":
		return printForeign(streams.Out, output, tidy(raw).Object)
	case "name":
		fmt.Fprintln(streams.Out, c.object(name))
	case "none":
	default:
		fmt.Fprintln(streams.Out, c.object(name), done)
	}
	return nil
}

// newSessionCreate makes a session of flags, as a run with --detach does.
func newSessionCreate(g gadgets, stop context.Context, streams Streams) *cobra.Command {
	o, name := &runOptions{detached: detached{detach: true}}, ""
	cmd := &cobra.Command{
		Use: "create NAME --gadget GADGET", Short: "Make a trace session; see also --detach of each gadget", Args: named(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if name == "" {
				return usagef("say which gadget, as in: --gadget trace_exec")
			}
			o.detached.name = names[0]
			if err := o.find(cmd, g, strings.ReplaceAll(name, " ", "_")); err != nil {
				return err
			}
			return o.make(stop, streams)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&name, "gadget", "", "gadget to run: trace_exec")
	flags.StringToStringVar(&o.changed, "param", nil, "a parameter of the gadget: name=value, see inspect")
	flags.StringVar(&o.filter, "filter", "", "CEL expression over the fields: comm == \"cat\" && errno != 0")
	flags.DurationVar(&o.interval, "interval", 0, "time between two readings of a table or snapshot")
	flags.Var((*byteSize)(&o.bufferSize), "buffer-size", "size of the kernel's event buffer: 4Mi, 512Ki, bytes")
	o.detached.addSession(flags, "")
	flags.StringVarP(&o.output, "output", "o", "columns", "columns, name, json, yaml or none")
	flags.BoolVar(&o.detached.whole, "cluster", false, "make a ClusterTraceSession in any case")
	o.selection.add(flags)
	clusters := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.cluster.add(clusters)
	addFree(flags, clusters, flags)
	completeCluster(cmd)
	_ = cmd.RegisterFlagCompletionFunc("gadget", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return g.names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// find completes the options with the gadget, or with as much as is known of it.
func (o *runOptions) find(cmd *cobra.Command, g gadgets, name string) error {
	if _, err := print.ParseMode(o.output); err != nil && o.output != "name" {
		return usagef("--output: %v", err)
	}
	o.spec = &gadget.Spec{Name: name}
	if err := o.selection.check(o); err != nil {
		return err
	}
	spec, err := g.suitable(cmd.Context(), &o.cluster, name, func(spec *gadget.Spec) error {
		known := *o
		known.spec = spec
		return known.detached.check(&known, cmd.Flags())
	})
	var unknown *gadget.UnknownError
	switch {
	case spec != nil:
		o.spec = spec
		return err
	case errors.As(err, &unknown):
		return usagef("%v", err)
	}
	// Agents may know it, but can't be asked.
	return o.detached.check(o, cmd.Flags())
}
