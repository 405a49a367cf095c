// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net"

	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/client"
)

// pipeSize is the buffer between client and agent in one process, in bytes.
const pipeSize = 1 << 20

// connect reaches the agent that --agent names, or starts one in this process:
// the same server, reached through memory instead of a socket.
func connect(opts *runOptions) (*client.Conn, func(), error) {
	if !opts.local {
		conn, err := client.Dial(opts.agent)
		return conn, func() {}, err
	}
	local, err := agent.Prepare(agent.Setup{BTF: opts.btf})
	if err != nil {
		return nil, nil, err
	}
	server := agent.NewServer(local)
	listener := bufconn.Listen(pipeSize)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Serve ends when stop, below, is called, and only then.
		_ = server.Serve(listener)
	}()
	stop := func() {
		server.Stop()
		<-done
		local.Close()
	}
	conn, err := client.DialWith(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) })
	if err != nil {
		stop()
		return nil, nil, err
	}
	return conn, stop, nil
}
