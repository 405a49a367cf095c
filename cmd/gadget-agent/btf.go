// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/agent"
)

// addBTFFlags are those that say where the kernel's types are.
func addBTFFlags(flags *pflag.FlagSet, setup *agent.Setup) {
	flags.StringVar(&setup.BTF, "btf", "", "BTF of this kernel, and nothing else is tried: a file, a directory, a bundle, or the URL of a BTF service")
	flags.StringVar(&setup.BTFBundle, "btf-bundle", "", "bundle of BTF to look into (default: the image's)")
	flags.StringVar(&setup.BTFService, "btf-service", "", "URL of a BTF service, asked last")
	flags.StringVar(&setup.BTFServiceCA, "btf-service-ca", "", "file with the certificates that the service's may be signed by (default: the system's)")
	flags.DurationVar(&setup.BTFServiceTimeout, "btf-service-timeout", 0, "longest wait for the service (default 30s)")
	flags.StringVar(&setup.HostRoot, "host-root", "/", "where the host's file system is")
}

func newBTF() *cobra.Command {
	cmd := &cobra.Command{Use: "btf", Short: "Say or install which types (BTF) are used on this kernel"}
	cmd.AddCommand(newBTFStatus(), newBTFInstall())
	return cmd
}

func newBTFStatus() *cobra.Command {
	var setup agent.Setup
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Show this kernel, the BTF chosen for it and why", Args: cobra.NoArgs,
		Long: "Show this kernel, the BTF chosen for it and why, what else was tried, and which gadgets\n" +
			"can't run here. The exit status is 1 if there is no BTF for this kernel.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output is %q, want text or json", output)
			}
			status, err := agent.Status(cmd.Context(), setup)
			if err != nil {
				return err
			}
			write := status.WriteText
			if output == "json" {
				write = status.WriteJSON
			}
			if err := write(cmd.OutOrStdout()); err != nil {
				return err
			}
			if status.Error != "" {
				return errors.New(status.Error)
			}
			return nil
		},
	}
	addBTFFlags(cmd.Flags(), &setup)
	cmd.Flags().StringVar(&setup.Gadgets, "gadgets", "", "directory of gadgets to ask about instead of the built-in ones")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func newBTFInstall() *cobra.Command {
	var setup agent.Setup
	var to agent.Installation
	cmd := &cobra.Command{
		Use: "install", Short: "Write this kernel's BTF to where libbpf looks, for other tools", Args: cobra.NoArgs,
		Long: "Write this kernel's BTF to <root>/boot/vmlinux-<release>, an ELF file that libbpf and others\n" +
			"look for. Nothing is written where the kernel carries its own BTF, unless --force is given.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := agent.InstallBTF(cmd.Context(), setup, to)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), done)
			return err
		},
	}
	addBTFFlags(cmd.Flags(), &setup)
	cmd.Flags().StringVar(&to.Root, "root", "/", "file system to write to")
	cmd.Flags().BoolVar(&to.Force, "force", false, "replace a file that is there, and install even if the kernel carries BTF")
	return cmd
}

// installBTF is btf install at the start of the agent, which serves also where
// nothing can be installed.
func installBTF(ctx context.Context, log *slog.Logger, a *agent.Agent, root string) {
	done, err := a.InstallBTF(ctx, agent.Installation{Root: root})
	if err != nil {
		log.Warn("other tools find no BTF", "error", err)
		return
	}
	log.Info(done)
}
