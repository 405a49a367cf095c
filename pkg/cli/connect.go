// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/client"
)

// pipeSize is the buffer between client and agent in one process, in bytes.
const pipeSize = 1 << 20

// target says who is asked: this machine, an agent, or a cluster.
type target struct {
	local   bool
	agent   string
	btf     string
	cluster clusterFlags
	// containers are followed where one machine is asked and pods were selected; sockets
	// are where their runtime listens, none for the usual places.
	containers bool
	sockets    []string
}

// clustered says whether a cluster is asked, not one machine.
func (t *target) clustered() bool { return !t.local && t.agent == "" }

// add adds the flags for machines; those for clusters are added by themselves.
func (t *target) add(flags *pflag.FlagSet) {
	flags.BoolVar(&t.local, "local", false, "this machine, without a cluster")
	flags.StringVar(&t.agent, "agent", "", "the machine of the agent at this address (unix:///path)")
	flags.StringVar(&t.btf, "btf", "", "BTF of this kernel: a file, a directory, a bundle, or the URL of a BTF service (with --local)")
	flags.StringSliceVar(&t.sockets, "runtime-socket", nil, "where the container runtime listens (with --local; default: the usual places)")
}

func (t *target) check() error {
	if t.local && t.agent != "" {
		return usagef("--local is for this machine and --agent for that of an agent: give one of them")
	}
	if t.btf != "" && !t.local {
		return usagef("--btf goes with --local: an agent has its own")
	}
	if len(t.sockets) > 0 && !t.local {
		return usagef("--runtime-socket goes with --local: an agent has its own")
	}
	return nil
}

// connect reaches the agent that --agent names, or starts one in this process: the
// same server, reached through memory instead of a socket. Without either it reaches
// the cluster's relay. Call the function at the end.
func (t *target) connect(ctx context.Context) (*client.Conn, func(), error) {
	if t.local {
		return t.connectLocal(ctx)
	}
	var conn *client.Conn
	var err error
	if t.agent != "" {
		conn, err = client.Dial(t.agent)
	} else {
		conn, err = t.cluster.connect(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { conn.Close() }, nil
}

func (t *target) connectLocal(ctx context.Context) (*client.Conn, func(), error) {
	local, err := agent.Prepare(agent.Setup{BTF: t.btf, Containers: t.containers, RuntimeSockets: t.sockets})
	if err != nil {
		return nil, nil, err
	}
	if t.containers {
		if err := local.Announce(ctx); err != nil {
			local.Close()
			return nil, nil, err
		}
	}
	listener := bufconn.Listen(pipeSize)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What goes wrong while it serves its only client learns.
		_ = local.Serve(serving, listener)
	}()
	stop := func() {
		cancel()
		<-done
		local.Close()
	}
	conn, err := client.DialWith(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) })
	if err != nil {
		stop()
		return nil, nil, err
	}
	return conn, func() { conn.Close(); stop() }, nil
}
