// SPDX-License-Identifier: Apache-2.0

// Command gadget-agent runs on every node: it loads gadgets and sends their
// records to clients.
package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/version"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "gadget-agent: %v\n", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "gadget-agent",
		Short:         "Trace this node for clients",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServe())
	return root
}

// serveOptions are the flags of serve.
type serveOptions struct {
	listen      string
	socketGroup string
	btf         string
	gadgets     string
	node        string
	queueSize   int
	maxRuns     int
}

func newServe() *cobra.Command {
	var opts serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve clients until terminated", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), opts) },
	}
	node := os.Getenv("NODE_NAME")
	if node == "" {
		node, _ = os.Hostname()
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.listen, "listen", "unix:///run/nodegadget/agent.sock", "address to serve at")
	flags.StringVar(&opts.socketGroup, "socket-group", "", "group whose members may connect too")
	flags.StringVar(&opts.btf, "btf", "", "BTF of this kernel: a file, or a directory with <release>.btf")
	flags.StringVar(&opts.gadgets, "gadgets", "", "directory of gadgets to serve instead of the built-in ones")
	flags.StringVar(&opts.node, "node-name", node, "name of this node ($NODE_NAME, else the host name)")
	flags.IntVar(&opts.queueSize, "queue-size", agent.DefaultQueueSize, "most bytes that wait for one client")
	flags.IntVar(&opts.maxRuns, "max-runs", agent.DefaultMaxRuns, "most gadgets that run at the same time")
	return cmd
}

func serve(ctx context.Context, opts serveOptions) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	types, err := kernel.Find(kernel.Options{Path: opts.btf})
	if err != nil {
		return err
	}
	var files fs.FS = gadgets.Objects()
	if opts.gadgets != "" {
		files = os.DirFS(opts.gadgets)
	}
	catalog, err := gadget.NewCatalog(files, agent.Arch())
	if err != nil {
		return err
	}
	if len(catalog.Names()) == 0 {
		return fmt.Errorf("no gadgets in %s: want <name>/gadget.%s.o", opts.gadgets, agent.Arch())
	}
	listener, err := agent.Listen(opts.listen, opts.socketGroup)
	if err != nil {
		return err
	}
	log.Info("serving", "address", opts.listen, "node", opts.node, "gadgets", len(catalog.Names()), "btf", types.Source.String())
	return agent.New(agent.Options{
		Gadgets: catalog, Types: types, Node: opts.node, QueueSize: opts.queueSize, MaxRuns: opts.maxRuns, Log: log,
	}).Serve(ctx, listener)
}
