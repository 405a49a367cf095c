// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	builtin "nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/gadget"
)

// gadgets are what commands are made of: those of the agent that --agent names,
// which may be ones that this program has never heard of, or the built-in ones.
type gadgets struct {
	names []string
	spec  func(name string) (*gadget.Spec, error)
	// err is why these aren't the ones that were asked for.
	err error
}

// clusterTarget reads from arguments which cluster is meant, and whose records,
// whatever else they hold.
func clusterTarget(args []string) (*target, *selection, error) {
	t, selected := &target{}, &selection{}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	flags.BoolP("help", "h", false, "")
	t.addAll(flags)
	selected.add(flags)
	return t, selected, flags.Parse(args)
}

// clusterGadgets adds to the known gadgets those that only the cluster's agents
// know. It is asked when a command isn't known; ok is false if that changes nothing.
func clusterGadgets(ctx context.Context, args []string, known gadgets) (all gadgets, ok bool) {
	specs := clusterCatalog(ctx, args)
	byName := map[string]*gadget.Spec{}
	all = gadgets{names: slices.Clone(known.names), err: known.err}
	for i := range specs {
		if name := specs[i].Name; !slices.Contains(known.names, name) {
			byName[name] = &specs[i]
			all.names = append(all.names, name)
		}
	}
	slices.Sort(all.names)
	all.spec = func(name string) (*gadget.Spec, error) {
		if spec := byName[name]; spec != nil {
			return spec, nil
		}
		return known.spec(name)
	}
	return all, len(byName) > 0
}

// clusterSpec is the gadget as the cluster's agents have it, if that is another one.
func clusterSpec(ctx context.Context, args []string, known *gadget.Spec) *gadget.Spec {
	specs := clusterCatalog(ctx, args)
	for i := range specs {
		if specs[i].Name == known.Name && !reflect.DeepEqual(&specs[i], known) {
			return &specs[i]
		}
	}
	return nil
}

// clusterCatalog asks the cluster that the arguments mean for its gadgets. If it
// can't, there are none: whoever asks has an error of its own to report.
func clusterCatalog(ctx context.Context, args []string) []gadget.Spec {
	t, _, err := clusterTarget(args)
	if err != nil || !t.clustered() {
		return nil
	}
	specs, err := t.cluster.catalog(ctx)
	if err != nil {
		return nil
	}
	return specs
}

// catalog asks the cluster for its gadgets.
func (c *clusterFlags) catalog(ctx context.Context) ([]gadget.Spec, error) {
	ctx, cancel := context.WithTimeout(ctx, catalogTimeout)
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Catalog(ctx)
}

// suitable is the gadget of the name: the known one if it suits, else the cluster's,
// which may be newer. If there is neither, the error is that of the known one.
func (g *gadgets) suitable(ctx context.Context, c *clusterFlags, name string, suits func(*gadget.Spec) error) (*gadget.Spec, error) {
	spec, err := g.spec(name)
	if err == nil {
		if err = suits(spec); err == nil {
			return spec, nil
		}
	}
	specs, asked := c.catalog(ctx)
	for i := range specs {
		if specs[i].Name == name {
			return &specs[i], suits(&specs[i])
		}
	}
	if unknown := (*gadget.UnknownError)(nil); asked != nil && errors.As(err, &unknown) {
		return nil, asked
	}
	return spec, err
}

// catalogTimeout bounds the question for an agent's gadgets.
const catalogTimeout = 5 * time.Second

// openGadgets looks for --agent before flags are parsed: which flags there are
// depends on it. An agent that doesn't answer is reported by the run itself.
func openGadgets(ctx context.Context, args []string) gadgets {
	for i, arg := range args {
		address, ok := strings.CutPrefix(arg, "--agent=")
		if arg == "--agent" && i+1 < len(args) {
			address, ok = args[i+1], true
		}
		if ok {
			remote, err := agentGadgets(ctx, address)
			if err == nil {
				return remote
			}
			known := builtinGadgets()
			known.err = err
			return known
		}
	}
	return builtinGadgets()
}

func agentGadgets(ctx context.Context, address string) (gadgets, error) {
	ctx, cancel := context.WithTimeout(ctx, catalogTimeout)
	defer cancel()
	conn, err := client.Dial(address)
	if err != nil {
		return gadgets{}, err
	}
	defer conn.Close()
	specs, err := conn.Catalog(ctx)
	if err != nil {
		return gadgets{}, err
	}
	var g gadgets
	byName := map[string]*gadget.Spec{}
	for i := range specs {
		byName[specs[i].Name] = &specs[i]
		g.names = append(g.names, specs[i].Name)
	}
	g.spec = func(name string) (*gadget.Spec, error) {
		if spec, ok := byName[name]; ok {
			return spec, nil
		}
		return nil, &gadget.UnknownError{Name: name, Known: g.names}
	}
	return g, nil
}

func builtinGadgets() gadgets {
	catalog, err := gadget.NewCatalog(builtin.Objects(), agent.Arch())
	if err != nil {
		return gadgets{err: err}
	}
	return gadgets{names: catalog.Names(), spec: func(name string) (*gadget.Spec, error) {
		object, err := catalog.Object(name)
		if err != nil {
			return nil, err
		}
		return &object.Spec, nil
	}}
}
