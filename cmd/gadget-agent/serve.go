// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"nodegadget.dev/pkg/agent"
)

// serveOptions are what serve's flags say beside the setup.
type serveOptions struct {
	listen, group, install string
	enrolment              agent.Enrolment
	pods, sessions         bool
}

func newServe() *cobra.Command {
	setup := agent.Setup{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Heartbeat: true}
	var opts serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve clients until terminated", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), setup, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.listen, "listen", "unix:///run/nodegadget/agent.sock", "address to serve at: unix:///path, or tcp://host:port for the controller alone")
	flags.StringVar(&opts.group, "socket-group", "", "group whose members may connect to the socket too")
	flags.StringVar(&setup.HTTP, "http", "", "address for /metrics, /healthz and /readyz, such as :9090 (default: none)")
	addClusterFlags(flags, &setup, &opts)
	addSessionFlags(flags, &setup.Sessions, &opts)
	addBTFFlags(flags, &setup)
	flags.StringVar(&opts.install, "btf-install", "", "write this kernel's BTF below this root for other tools, as btf install does")
	flags.StringVar(&setup.Gadgets, "gadgets", "", "directory of gadgets to serve instead of the built-in ones")
	flags.IntVar(&setup.BufferSize, "buffer-size", 0, "bytes of the kernel's event buffer where the client doesn't say (default 4194304)")
	flags.Uint32Var(&setup.CgroupBudget, "cgroup-budget", 0, "most events a second of one cgroup in one gadget, so that it can't drown its neighbours' (default: any number)")
	flags.IntVar(&setup.QueueSize, "queue-size", agent.DefaultQueueSize, "most bytes that wait for one client")
	flags.IntVar(&setup.MaxRuns, "max-runs", agent.DefaultMaxRuns, "most gadgets that run at the same time")
	return cmd
}

// addClusterFlags are those of an agent in a cluster.
func addClusterFlags(flags *pflag.FlagSet, setup *agent.Setup, opts *serveOptions) {
	inPod := os.Getenv("KUBERNETES_SERVICE_HOST") != ""
	flags.StringVar(&setup.Node, "node-name", os.Getenv("NODE_NAME"), "name of this node (default: $NODE_NAME, else the host name)")
	flags.BoolVar(&setup.Containers, "containers", inPod, "follow containers, and name them in records (default: in a pod)")
	flags.StringSliceVar(&setup.RuntimeSockets, "runtime-socket", nil, "where the container runtime listens, on the host (default: the usual places)")
	flags.StringVar(&setup.CgroupRoot, "cgroup-root", "", "cgroup that holds all of this node (default: found by the agent's own)")
	flags.BoolVar(&opts.pods, "pods", inPod, "follow the labels and owners of this node's pods through the API server (default: in a pod)")
	flags.StringVar(&opts.enrolment.Controller, "controller", "", "host:port of the controller, which issues the agent's certificate and is its only client on TCP")
	flags.StringVar(&opts.enrolment.Authority, "authority", "", "file with the certificates of who may have signed the controller's")
	flags.StringVar(&opts.enrolment.Token, "token", "", "file with the token of the agent's service account")
}

// addSessionFlags bound what trace sessions may take of the node.
func addSessionFlags(flags *pflag.FlagSet, limits *agent.SessionLimits, opts *serveOptions) {
	inPod := os.Getenv("KUBERNETES_SERVICE_HOST") != ""
	flags.BoolVar(&opts.sessions, "sessions", inPod, "record the trace sessions that the API server has for this node (default: in a pod)")
	flags.IntVar(&limits.Sessions, "session-limit", agent.DefaultSessions, "most sessions that run at the same time")
	flags.IntVar(&limits.PerNamespace, "session-namespace-limit", agent.DefaultSessionsPerNamespace, "most of them of one namespace")
	flags.Int64Var(&limits.Memory, "session-memory", agent.DefaultSessionMemory, "most bytes that all sessions retain together")
	flags.Int64Var(&limits.Rate, "session-rate", agent.DefaultSessionRate, "most records a second of one namespace's sessions")
	flags.Int64Var(&limits.NodeRate, "session-node-rate", agent.DefaultSessionNodeRate, "most records a second of all sessions")
	flags.StringVar(&limits.Files, "session-files", "", "directory for the files of sessions (default: none, no session writes files)")
	flags.Int64Var(&limits.FileBytes, "session-file-bytes", agent.DefaultSessionFileBytes, "most bytes of those files together")
	flags.StringSliceVar(&limits.Endpoints, "session-endpoint", nil, "host:port that sessions may send to by OTLP (default: any)")
}

func serve(ctx context.Context, setup agent.Setup, opts serveOptions) error {
	setup.FollowPods, setup.FollowSessions = opts.pods && setup.Containers, opts.sessions
	if setup.FollowPods || setup.FollowSessions {
		config, err := rest.InClusterConfig()
		if err != nil {
			return fmt.Errorf("--pods and --sessions work in a pod with a service account: %w", err)
		}
		setup.Kubernetes = config
	}
	if opts.enrolment != (agent.Enrolment{}) {
		setup.Enrolment = &opts.enrolment
	}
	a, err := agent.Prepare(setup)
	if err != nil {
		return err
	}
	defer a.Close()
	// Before it is looked for anything, so that a mistake shows at once.
	listener, err := a.Listen(opts.listen, opts.group)
	if err != nil {
		return err
	}
	if err := a.Announce(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	if opts.install != "" {
		installBTF(ctx, setup.Log, a, opts.install)
	}
	return a.Serve(ctx, listener)
}
