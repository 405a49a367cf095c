// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/test/bufconn"

	builtin "nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/gadget"
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
	types, err := kernel.Find(kernel.Options{Path: opts.btf})
	if err != nil {
		return nil, nil, err
	}
	catalog, err := gadget.NewCatalog(builtin.Objects(), agent.Arch())
	if err != nil {
		return nil, nil, err
	}
	node, err := os.Hostname()
	if err != nil {
		return nil, nil, fmt.Errorf("reading host name: %w", err)
	}
	server := agent.NewServer(agent.New(agent.Options{Gadgets: catalog, Types: types, Node: node}))
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
	}
	conn, err := client.DialWith(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) })
	if err != nil {
		stop()
		return nil, nil, err
	}
	return conn, stop, nil
}
