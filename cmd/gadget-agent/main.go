// SPDX-License-Identifier: Apache-2.0

// Command gadget-agent runs on every node: it loads gadgets and sends their
// records to clients.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/agent"
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
	root.AddCommand(newServe(), newBTF())
	return root
}

func newServe() *cobra.Command {
	setup := agent.Setup{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	var listen, group, install string
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve clients until terminated", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := agent.Prepare(setup)
			if err != nil {
				return err
			}
			defer a.Close()
			if err := a.Announce(cmd.Context()); err != nil {
				return err
			}
			if install != "" {
				installBTF(cmd.Context(), setup.Log, a, install)
			}
			listener, err := agent.Listen(listen, group)
			if err != nil {
				return err
			}
			return a.Serve(cmd.Context(), listener)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "unix:///run/nodegadget/agent.sock", "address to serve at")
	flags.StringVar(&group, "socket-group", "", "group whose members may connect too")
	addBTFFlags(flags, &setup)
	flags.StringVar(&install, "btf-install", "", "write this kernel's BTF below this root for other tools, as btf install does")
	flags.StringVar(&setup.Gadgets, "gadgets", "", "directory of gadgets to serve instead of the built-in ones")
	flags.StringVar(&setup.Node, "node-name", os.Getenv("NODE_NAME"), "name of this node (default: $NODE_NAME, else the host name)")
	flags.IntVar(&setup.QueueSize, "queue-size", agent.DefaultQueueSize, "most bytes that wait for one client")
	flags.IntVar(&setup.MaxRuns, "max-runs", agent.DefaultMaxRuns, "most gadgets that run at the same time")
	return cmd
}
