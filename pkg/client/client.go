// SPDX-License-Identifier: Apache-2.0

// Package client speaks to an agent, or to the relay of a cluster, which speaks to
// the agents of all nodes. It lists gadgets, runs one, and hands out the messages of
// a run, which look the same for one agent and for many nodes. A relay's run goes on
// when its connection breaks. The package knows nothing of terminals and Kubernetes.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// Conn is a connection to an agent or a relay. Its methods may be called concurrently.
type Conn struct {
	grpc  *grpc.ClientConn
	agent wire.AgentClient
	// relay is nil if the peer is an agent.
	relay wire.RelayClient
	// retry is how long a broken run is tried to be resumed.
	retry time.Duration
	// dialing is why connecting didn't succeed: gRPC tells only its text.
	dialing atomic.Pointer[error]
}

// Dial connects to the agent at address, "unix:///path". Whether somebody is
// there shows at the first call.
func Dial(address string) (*Conn, error) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok || !strings.HasPrefix(path, "/") {
		return nil, &UsageError{Text: fmt.Sprintf("agent address %q is not of the form unix:///path/to/socket", address)}
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no agent at %s: there is no such socket; start one with: gadget-agent serve --listen %s", path, address)
	}
	return dialAgent(address)
}

// DialWith connects through dialer, for agents in the same process.
func DialWith(dialer func(context.Context) (net.Conn, error)) (*Conn, error) {
	return dialAgent("passthrough:///in-process", grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return dialer(ctx) }))
}

func dialAgent(target string, opts ...grpc.DialOption) (*Conn, error) {
	opts = append(opts,
		// A unix socket's permissions and a process's own memory are the protection here.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	c := &Conn{}
	if err := c.open(target, opts); err != nil {
		return nil, err
	}
	c.agent = wire.NewAgentClient(c.grpc)
	return c, nil
}

// open makes the gRPC connection with what all peers have in common.
func (c *Conn) open(target string, opts []grpc.DialOption) error {
	conn, err := grpc.NewClient(target, append(opts,
		grpc.WithInitialWindowSize(wire.Window),
		grpc.WithInitialConnWindowSize(wire.Window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage)))...)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", target, err)
	}
	c.grpc = conn
	return nil
}

// Close ends the connection and all its runs.
func (c *Conn) Close() error { return c.grpc.Close() }

// Catalog lists the gadgets that can be run.
func (c *Conn) Catalog(ctx context.Context) ([]gadget.Spec, error) {
	response, err := c.catalog(ctx)
	if err != nil {
		return nil, c.wrap("listing gadgets", err)
	}
	specs := make([]gadget.Spec, 0, len(response.GetGadgets()))
	for _, g := range response.GetGadgets() {
		spec, err := g.Spec()
		if err != nil {
			return nil, fmt.Errorf("listing gadgets: %w", err)
		}
		specs = append(specs, *spec)
	}
	return specs, nil
}

func (c *Conn) catalog(ctx context.Context) (*wire.CatalogResponse, error) {
	if c.relay != nil {
		return c.relay.Catalog(ctx, &wire.CatalogRequest{})
	}
	return c.agent.Catalog(ctx, &wire.CatalogRequest{})
}

// Nodes says how the nodes are doing; an agent has just its own.
func (c *Conn) Nodes(ctx context.Context) (*wire.NodesResponse, error) {
	if c.relay != nil {
		response, err := c.relay.Nodes(ctx, &wire.NodesRequest{})
		return response, c.wrap("asking the relay for its nodes", err)
	}
	info, err := c.agent.Info(ctx, &wire.InfoRequest{})
	if err != nil {
		return nil, c.wrap("asking the agent", err)
	}
	return &wire.NodesResponse{
		Protocol: info.GetProtocol(), Nodes: []*wire.NodeReport{{Name: info.GetNode().GetName(), Info: info}},
	}, nil
}

// Doctor says what stands in the way of which gadget on the nodes of these names, or
// on all; an agent has just its own.
func (c *Conn) Doctor(ctx context.Context, nodes []string) (*wire.NodesResponse, error) {
	request := &wire.DoctorRequest{Nodes: nodes}
	if c.relay != nil {
		response, err := c.relay.Doctor(ctx, request)
		return response, c.wrap("asking the relay for its nodes", err)
	}
	response, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	findings, err := c.agent.Doctor(ctx, request)
	if status.Code(err) == codes.Unimplemented {
		return nil, fmt.Errorf("agent %s is too old to examine its node", response.GetNodes()[0].GetInfo().GetAgentVersion())
	}
	response.GetNodes()[0].Doctor = findings
	return response, c.wrap("asking the agent", err)
}

// UsageError is an error that the user can mend by asking for something else.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// wrap turns a gRPC status into an error without gRPC's words. Without an error it
// is none.
func (c *Conn) wrap(context string, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.NotFound:
		return &UsageError{Text: s.Message()}
	case codes.Unavailable:
		if dialing := c.dialing.Load(); dialing != nil {
			return *dialing
		}
		if c.grpc.GetState() == connectivity.Ready {
			return errors.New(s.Message()) // It was reached, and says so itself.
		}
		return fmt.Errorf("the %s can't be reached: %s", c.peer(), s.Message())
	}
	if context == "" {
		return errors.New(s.Message())
	}
	return fmt.Errorf("%s: %s", context, s.Message())
}

func (c *Conn) peer() string {
	if c.relay != nil {
		return "relay"
	}
	return "agent"
}
