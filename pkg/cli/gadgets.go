// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"time"

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
