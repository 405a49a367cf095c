// SPDX-License-Identifier: Apache-2.0

// Package client speaks to an agent: it lists gadgets, runs one, and hands out
// the batches, the losses and the end of a run. It knows nothing of terminals.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// Conn is a connection to an agent. Its methods may be called concurrently.
type Conn struct {
	grpc  *grpc.ClientConn
	agent wire.AgentClient
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
	return dial(address, nil)
}

// DialWith connects through dialer, for agents in the same process.
func DialWith(dialer func(context.Context) (net.Conn, error)) (*Conn, error) {
	return dial("passthrough:///in-process", dialer)
}

func dial(target string, dialer func(context.Context) (net.Conn, error)) (*Conn, error) {
	opts := []grpc.DialOption{
		// A unix socket's permissions and a process's own memory are the protection here.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(wire.Window),
		grpc.WithInitialConnWindowSize(wire.Window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if dialer != nil {
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dialer(ctx) }))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", target, err)
	}
	return &Conn{grpc: conn, agent: wire.NewAgentClient(conn)}, nil
}

// Close ends the connection and all its runs.
func (c *Conn) Close() error { return c.grpc.Close() }

// Catalog lists the agent's gadgets.
func (c *Conn) Catalog(ctx context.Context) ([]gadget.Spec, error) {
	response, err := c.agent.Catalog(ctx, &wire.CatalogRequest{})
	if err != nil {
		return nil, wrap("listing gadgets", err)
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

// Info says which node the agent is on.
func (c *Conn) Info(ctx context.Context) (*wire.InfoResponse, error) {
	response, err := c.agent.Info(ctx, &wire.InfoRequest{})
	if err != nil {
		return nil, wrap("asking the agent", err)
	}
	return response, nil
}

// Run is a gadget that runs on the agent. Next may be called by one goroutine,
// Stop by any.
type Run struct {
	// Header is what the agent said at the beginning.
	Header *wire.Header
	// Spec is the gadget as the agent has it.
	Spec   gadget.Spec
	stream grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse]
	stop   sync.Once
}

// Run starts a gadget and waits until it is attached. It runs until Stop, or
// until ctx ends, which loses what is under way.
func (c *Conn) Run(ctx context.Context, start *wire.Start) (*Run, error) {
	stream, err := c.agent.Run(ctx)
	if err != nil {
		return nil, wrap("starting the run", err)
	}
	start.Protocol = wire.Current()
	// io.EOF is only that the stream has ended; Recv says why.
	if err := stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, wrap("starting the run", err)
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the agent ended the run before it began")
	}
	if err != nil {
		return nil, wrap("", err)
	}
	header := first.GetHeader()
	if header == nil {
		return nil, errors.New("the agent's first message is not a header")
	}
	if err := wire.CheckVersion(header.GetProtocol()); err != nil {
		return nil, err
	}
	spec, err := header.GetGadget().Spec()
	if err != nil {
		return nil, err
	}
	return &Run{Header: header, Spec: *spec, stream: stream}, nil
}

// Stop asks for the end, once. What was recorded until then still comes through Next.
func (r *Run) Stop() {
	r.stop.Do(func() {
		// If the stream is gone, Next says so.
		_ = r.stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}})
	})
}

// Next returns the next message: a batch that has passed its check, a loss, a
// notice, or the end. After the end it returns io.EOF.
func (r *Run) Next() (*wire.RunResponse, error) {
	response, err := r.stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, wrap("", err)
	}
	if batch := response.GetBatch(); batch != nil {
		if err := batch.Check(); err != nil {
			return nil, err
		}
	}
	return response, nil
}

// UsageError is an error that the user can mend by asking for something else.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// wrap turns a gRPC status into an error without gRPC's words.
func wrap(context string, err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.NotFound:
		return &UsageError{Text: s.Message()}
	case codes.Unavailable:
		return fmt.Errorf("the agent can't be reached: %s", s.Message())
	}
	if context == "" {
		return errors.New(s.Message())
	}
	return fmt.Errorf("%s: %s", context, s.Message())
}
