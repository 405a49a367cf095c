// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
)

// Setup says how to put an agent together on this machine. The zero value serves
// the built-in gadgets with the types that the kernel carries.
type Setup struct {
	// BTF names a file or directory with the kernel's types; see kernel.Options.
	BTF string
	// Gadgets is a directory of gadgets to serve instead of the built-in ones.
	Gadgets string
	// Node is the node's name; empty for the host's.
	Node string
	// QueueSize, MaxRuns and Log are those of Options.
	QueueSize, MaxRuns int
	Log                *slog.Logger
}

// Prepare finds the gadgets and the kernel's types and makes an agent of them.
func Prepare(setup Setup) (*Agent, error) {
	var files fs.FS = gadgets.Objects()
	if setup.Gadgets != "" {
		files = os.DirFS(setup.Gadgets)
	}
	catalog, err := gadget.NewCatalog(files, Arch())
	if err != nil {
		return nil, err
	}
	if len(catalog.Names()) == 0 {
		return nil, fmt.Errorf("no gadgets in %s: want <name>/gadget.%s.o", setup.Gadgets, Arch())
	}
	types, err := kernel.Find(kernel.Options{Path: setup.BTF})
	if err != nil {
		return nil, err
	}
	if setup.Node == "" {
		if setup.Node, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("reading host name: %w", err)
		}
	}
	a := New(Options{
		Gadgets: catalog, Types: types, Node: setup.Node, QueueSize: setup.QueueSize, MaxRuns: setup.MaxRuns, Log: setup.Log,
	})
	a.opts.Log.Info("agent is ready", "node", setup.Node, "gadgets", len(catalog.Names()), "btf", types.Source.String())
	return a, nil
}
