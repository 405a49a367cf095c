// SPDX-License-Identifier: Apache-2.0

// Command gadget-controller is what users of a cluster connect to: it relays their
// traces from the agents of all nodes, issues the agents' certificates, and looks after
// trace sessions.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"nodegadget.dev/pkg/controller"
	"nodegadget.dev/pkg/version"
)

// checkTimeout bounds how long a controller may take to answer.
const checkTimeout = 30 * time.Second

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "gadget-controller: %v\n", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	opts := controller.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Limits: controller.DefaultLimits()}
	var kubeconfig string
	root := &cobra.Command{
		Use:           "gadget-controller",
		Short:         "Relay traces from the agents of all nodes",
		Version:       version.Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Namespace == "" {
				return errors.New("no namespace: give --namespace, or set POD_NAMESPACE")
			}
			// What client-go has to say concerns its own retries.
			klog.SetOutput(io.Discard)
			klog.LogToStderr(false)
			var err error
			if opts.Config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
				return fmt.Errorf("finding the API server: %w", err)
			}
			opts.Config.UserAgent = "gadget-controller/" + version.Version
			opts.Config.QPS, opts.Config.Burst = 50, 100
			return controller.Run(cmd.Context(), opts)
		},
	}
	flags := root.Flags()
	flags.StringVar(&opts.Listen, "listen", ":8443", "address for clients and agents")
	flags.StringVar(&opts.HTTP, "http", ":9090", "address for /metrics, /healthz and /readyz")
	flags.StringVar(&opts.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the agents (default: $POD_NAMESPACE)")
	flags.StringVar(&kubeconfig, "kubeconfig", "", "file that says how to reach the API server (default: as a pod does)")
	flags.BoolVar(&opts.LeaderElect, "leader-elect", true, "have one controller of several look after trace sessions, chosen by a Lease")
	addLimits(flags, &opts.Limits)
	root.AddCommand(newCheck())
	return root
}

// addLimits adds a flag for each limit.
func addLimits(flags *pflag.FlagSet, l *controller.Limits) {
	flags.IntVar(&l.Sessions, "max-sessions", l.Sessions, "most runs at the same time")
	flags.IntVar(&l.SessionsPerUser, "max-sessions-per-user", l.SessionsPerUser, "most runs of one user at the same time")
	flags.IntVar(&l.SessionMemory, "session-memory", l.SessionMemory, "most bytes that are kept for the client of a run")
	flags.IntVar(&l.MergeMemory, "merge-memory", l.MergeMemory, "most bytes of a run that wait to be put in order")
	flags.DurationVar(&l.MergeWindow, "merge-window", l.MergeWindow, "how long records wait for older ones of other nodes")
	flags.DurationVar(&l.Linger, "linger", l.Linger, "how long a run waits for a client whose connection broke")
	flags.DurationVar(&l.Stall, "stall", l.Stall, "how long a client may read nothing before it is cut off")
	flags.DurationVar(&l.Recheck, "recheck", l.Recheck, "how often at least it is asked whether users may still see what they trace")
}

func newCheck() *cobra.Command {
	var address, authority string
	cmd := &cobra.Command{
		Use: "check", Short: "Say whether a controller answers, and proves to be one", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), checkTimeout)
			defer cancel()
			if err := controller.Check(ctx, address, authority); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "the controller answers")
			return err
		},
	}
	cmd.Flags().StringVar(&address, "controller", "", "its address, host:port")
	cmd.Flags().StringVar(&authority, "authority", "", "file with the certificate of the authority that it must have its own from")
	return cmd
}
