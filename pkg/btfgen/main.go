// SPDX-License-Identifier: Apache-2.0

// Package btfgen is the command line of the program of that name: flags, files
// and texts around pkg/btf. What it does is done there.
package btfgen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/version"
)

// Exit statuses.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitSkipped = 3 // done, except for inputs that could not be used
)

// streams are where the program reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is the caller's mistake.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// skippedError says that the work was done and something was left out.
type skippedError struct{ text string }

func (e *skippedError) Error() string { return e.text }

// Main runs the program and returns its exit status.
func Main(args []string) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	return run(ctx, args, streams{os.Stdin, os.Stdout, os.Stderr})
}

func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(s.err, "btfgen: %s\n", print.EscapeLines(err.Error()))
	var usage *usageError
	var skipped *skippedError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &skipped):
		return exitSkipped
	}
	return exitFailed
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "btfgen",
		Short:         "Make and serve BTF for kernels that ship none",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s: see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newTailor(s), newBuild(s), newCollect(s), newInspect(s), newServe(s))
	return root
}

// args checks the number of arguments as a mistake of usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%s: see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}

// required are flags that must be given.
func required(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if value := cmd.Flags().Lookup(name).Value.String(); value == "" {
			return usagef("--%s is missing: see %s --help", name, cmd.CommandPath())
		}
	}
	return nil
}
