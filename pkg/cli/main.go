// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/version"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Streams are where a program reads and writes.
type Streams struct {
	Out, Err io.Writer
}

// Main runs the plugin and returns its exit status. The first interrupt ends a
// run in good order, the second one at once.
func Main(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	stop, stopNow := context.WithCancel(ctx)
	go func() {
		<-interrupts
		stopNow()
		<-interrupts
		cancel()
	}()
	return run(ctx, stop, args, Streams{Out: os.Stdout, Err: os.Stderr})
}

// run is Main without the process: stop ends a run in good order, ctx at once.
func run(ctx, stop context.Context, args []string, streams Streams) int {
	root := newRoot(ctx, stop, args, streams)
	root.SetArgs(args)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(streams.Err, "kubectl-gadget: %s\n", print.EscapeLines(err.Error()))
	var usage *client.UsageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func usagef(format string, args ...any) error {
	return &client.UsageError{Text: fmt.Sprintf(format, args...)}
}

func newRoot(ctx, stop context.Context, args []string, streams Streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-gadget",
		Short:         "See what happens on a node, live, from inside its kernel",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// In "trace opem --local" the flag isn't what is wrong.
		if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
			return unknownCommand(cmd, words)
		}
		return usagef("%v (see: %s --help)", err, cmd.CommandPath())
	})
	gadgets := openGadgets(ctx, args)
	addRunCommands(root, gadgets, stop, streams)
	root.AddCommand(newCatalog(gadgets, streams), newInspect(gadgets, streams))
	return root
}

// unknownCommand makes a mistyped command a usage error with suggestions.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	text := fmt.Sprintf("unknown command %q for %s", args[0], cmd.CommandPath())
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return usagef("%s, did you mean: %s?", text, strings.Join(similar, ", "))
	}
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	return usagef("%s, known are: %s", text, strings.Join(known, ", "))
}
