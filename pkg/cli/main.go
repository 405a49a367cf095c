// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/version"
)

// Exit statuses.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitProblems = 3
)

// Streams are where a program reads and writes.
type Streams struct {
	Out, Err io.Writer
}

// Main runs the plugin and returns its exit status. The first interrupt ends a
// run in good order, the second one at once.
func Main(args []string) int {
	// What Kubernetes' libraries log is for their authors, and not made safe for terminals.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
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
	known := openGadgets(ctx, args)
	err := execute(ctx, newRoot(known, stop, streams), args, streams)
	var unknown *unknownError
	if errors.As(err, &unknown) {
		if all, ok := clusterGadgets(ctx, args, known); ok {
			err = execute(ctx, newRoot(all, stop, streams), args, streams)
		}
	}
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(streams.Err, "kubectl-gadget: %s\n", print.EscapeLines(err.Error()))
	var usage *client.UsageError
	var problems *problemsError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &problems):
		return exitProblems
	}
	return exitFailed
}

func execute(ctx context.Context, root *cobra.Command, args []string, streams Streams) error {
	root.SetArgs(args)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	return root.ExecuteContext(ctx)
}

// unknownError says that there is no such command, or gadget, as far as known here.
type unknownError struct{ client.UsageError }

func (e *unknownError) Unwrap() error { return &e.UsageError }

func unknownf(format string, args ...any) error {
	return &unknownError{client.UsageError{Text: fmt.Sprintf(format, args...)}}
}

func usagef(format string, args ...any) error {
	return &client.UsageError{Text: fmt.Sprintf(format, args...)}
}

func newRoot(gadgets gadgets, stop context.Context, streams Streams) *cobra.Command {
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
	knowRunFlags(root.Flags())
	addRunCommands(root, gadgets, stop, streams)
	root.AddCommand(newCatalog(gadgets, streams), newInspect(gadgets, streams), newStatus(stop, streams), newDoctor(stop, streams), newVersion(stop, streams),
		newSession(gadgets, stop, streams), newDeploy(stop, streams), newUndeploy(stop, streams))
	return root
}

// knowRunFlags makes a command that has others below it know the flags of runs. They
// may stand before a gadget's name, and which of them take a value has to be known
// to find it.
func knowRunFlags(flags *pflag.FlagSet) {
	(&target{}).addAll(flags)
	(&selection{}).add(flags)
	flags.BoolP("verbose", "v", false, "")
	flags.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
}

// unknownCommand makes a mistyped command a usage error with suggestions.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	text := fmt.Sprintf("unknown command %q for %s", args[0], cmd.CommandPath())
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return unknownf("%s, did you mean: %s?", text, strings.Join(similar, ", "))
	}
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	return unknownf("%s, known are: %s", text, strings.Join(known, ", "))
}
