// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/cluster"
	"nodegadget.dev/pkg/wire"
)

// clusterFlags say which cluster is meant, and as whom.
type clusterFlags struct {
	config *genericclioptions.ConfigFlags
	// namespace is where nodegadget is installed.
	namespace string
}

// add adds kubectl's own flags, but for the namespace, of which a run takes several.
func (c *clusterFlags) add(flags *pflag.FlagSet) {
	c.config = genericclioptions.NewConfigFlags(false)
	c.config.Namespace = nil
	// The default cache is as good as any, and its path no business of the help's.
	c.config.CacheDir = nil
	c.config.AddFlags(flags)
	flags.StringVar(&c.namespace, "gadget-namespace", cluster.DefaultNamespace, "namespace in which nodegadget is installed")
}

func (c *clusterFlags) open() (*cluster.Cluster, error) {
	return cluster.Open(cluster.Options{Flags: c.config, Namespace: c.namespace})
}

func (c *clusterFlags) connect(ctx context.Context) (*client.Conn, error) {
	opened, err := c.open()
	if err != nil {
		return nil, err
	}
	return opened.Connect(ctx)
}

// addFree adds those of more whose names aren't taken by a flag of taken. So a
// gadget's own parameter keeps its name, whatever other flags there come to be.
func addFree(flags, more, taken *pflag.FlagSet) {
	more.VisitAll(func(f *pflag.Flag) {
		if taken.Lookup(f.Name) != nil {
			return
		}
		if f.Shorthand != "" && taken.ShorthandLookup(f.Shorthand) != nil {
			f.Shorthand = ""
		}
		flags.AddFlag(f)
	})
}

// selection says whose records are wanted.
type selection struct {
	namespaces    []string
	allNamespaces bool
	pods          []string
	containers    []string
	labels        string
	nodes         []string
	host          bool
}

func (s *selection) add(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&s.namespaces, "namespace", "n", nil, "namespaces whose pods to trace (default: the kubeconfig's current one)")
	flags.BoolVarP(&s.allNamespaces, "all-namespaces", "A", false, "trace the pods of all namespaces")
	flags.StringSliceVarP(&s.pods, "podname", "p", nil, "names of the pods to trace")
	flags.StringSliceVarP(&s.containers, "containername", "c", nil, "names of the containers to trace")
	flags.StringVarP(&s.labels, "selector", "l", "", "labels of the pods to trace: app=cart,tier!=cache")
	flags.StringSliceVar(&s.nodes, "node", nil, "names of the nodes to trace on")
	flags.BoolVar(&s.host, "host", false, "trace processes outside of containers too")
}

// any says whether anything was selected.
func (s *selection) any() bool {
	return len(s.namespaces)+len(s.pods)+len(s.containers) > 0 || s.allNamespaces || s.labels != "" || s.host
}

// check completes the selector of a run. Without one, a machine is traced as a
// whole, and a cluster in the kubeconfig's current namespace.
func (s *selection) check(o *runOptions) error {
	if _, err := labels.Parse(s.labels); err != nil {
		return usagef("--selector: %v", err)
	}
	if !o.clustered() && len(s.nodes) > 0 {
		return usagef("--node is for clusters: --local and --agent are one node each")
	}
	if !o.clustered() && !s.any() {
		return nil
	}
	o.containers = !o.clustered()
	o.selector = &wire.Selector{Namespaces: s.namespaces, Pods: s.pods, Containers: s.containers, Labels: s.labels, Host: s.host}
	switch {
	case s.allNamespaces:
		o.selector.Namespaces = nil
	case o.clustered() && len(s.namespaces) == 0:
		opened, err := o.cluster.open()
		if err != nil {
			return err
		}
		current, err := opened.CurrentNamespace()
		if err != nil {
			return err
		}
		o.selector.Namespaces = []string{current}
	}
	return nil
}
