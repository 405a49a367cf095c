// SPDX-License-Identifier: Apache-2.0

package btfgen

import (
	"fmt"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/print"
)

func newCollect(s streams) *cobra.Command {
	var opts hub.CollectOptions
	var strict bool
	cmd := &cobra.Command{
		Use:   "collect --out DIR FILE...",
		Short: "Take full BTF out of kernel packages and images",
		Long: `Take full BTF out of kernel packages (deb, rpm), vmlinux and vmlinuz files, and
keep it in BTFHub's layout. Where there is only debug information (DWARF), pahole
makes BTF of it; it must be installed then.

Files that can't be used are named and skipped; the exit status is then 3, or 1
with --strict.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, inputs []string) error {
			if err := required(cmd, "out"); err != nil {
				return err
			}
			if opts.Kernel.Arch != "" {
				arch, err := layout.Arch(opts.Kernel.Arch)
				if err != nil {
					return usagef("--arch: %s", err)
				}
				opts.Kernel.Arch = arch
			}
			report, err := hub.Collect(cmd.Context(), inputs, opts)
			if err != nil {
				return err
			}
			return showCollected(s, report, strict)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Out, "out", "", "directory of the archive")
	flags.StringVar(&opts.Kernel.Distro, "distro", "", "distribution, where it can't be guessed")
	flags.StringVar(&opts.Kernel.Release, "release", "", "release of the distribution, where it can't be guessed")
	flags.StringVar(&opts.Kernel.Arch, "arch", "", "architecture, where it can't be guessed")
	flags.StringVar(&opts.Kernel.Uname, "uname", "", "what uname -r prints, where it can't be guessed")
	flags.BoolVar(&opts.Force, "force", false, "replace entries that have other types")
	flags.StringVar(&opts.Pahole, "pahole", "", "the pahole to run (default: the one in PATH)")
	flags.IntVarP(&opts.Workers, "jobs", "j", 0, "files at once (default: one a core)")
	flags.BoolVar(&strict, "strict", false, "fail if a file can't be used")
	return cmd
}

func showCollected(s streams, report hub.CollectReport, strict bool) error {
	for _, c := range report.Inputs {
		name := c.Input
		if c.Member != "" {
			name += " (" + c.Member + ")"
		}
		switch {
		case c.Reason != "":
			fmt.Fprintf(s.err, "skipped: %s: %s\n", print.Escape(name), print.Escape(c.Reason))
		case c.Written:
			fmt.Fprintf(s.out, "%s: %d bytes from %s of %s\n", c.Kernel, c.Size, c.Source, print.Escape(name))
		default:
			fmt.Fprintf(s.out, "%s: already there\n", c.Kernel)
		}
	}
	failed := len(report.Failed())
	switch {
	case failed == 0:
		return nil
	case strict || failed == len(report.Inputs):
		return fmt.Errorf("%d of %d files can't be used", failed, len(report.Inputs))
	}
	return &skippedError{fmt.Sprintf("%d of %d files were skipped", failed, len(report.Inputs))}
}
