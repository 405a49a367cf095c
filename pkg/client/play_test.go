// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

// act is one stream of the fake relay: what it answers to a request, and how it ends.
type act struct {
	answers []*wire.RunResponse
	// until is the message of the client for which it waits after the answers: "stop",
	// "break" for the connection's end, or none.
	until string
	end   error
}

// relay is a relay that plays one act after the other.
type relay struct {
	wire.UnimplementedRelayServer
	mu       sync.Mutex
	acts     []act
	requests []*wire.RunRequest
	headers  []metadata.MD
	// refuse is why nobody can connect.
	refuse error
	listen *bufconn.Listener
}

func (r *relay) next(request *wire.RunRequest, headers metadata.MD) act {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.headers = append(r.requests, request), append(r.headers, headers)
	if len(r.acts) == 0 {
		return act{end: status.Error(codes.Internal, "the play is over")}
	}
	a := r.acts[0]
	r.acts = r.acts[1:]
	return a
}

func (r *relay) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	headers, _ := metadata.FromIncomingContext(stream.Context())
	a := r.next(first, headers)
	for _, answer := range a.answers {
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
	if a.until == "stop" {
		for {
			request, err := stream.Recv()
			if err != nil {
				return err
			}
			if request.GetStop() != nil {
				break
			}
		}
	}
	return a.end
}

func (r *relay) Nodes(ctx context.Context, _ *wire.NodesRequest) (*wire.NodesResponse, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	a := r.next(nil, headers)
	return &wire.NodesResponse{RelayVersion: "v9"}, a.end
}

func (r *relay) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

func (r *relay) dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return nil, r.refuse
	}
	return r.listen.DialContext(ctx)
}

// certify makes the configurations of a server of the identity and of a client of a relay.
func certify(tb testing.TB, identity pki.Identity) (server, client *tls.Config) {
	tb.Helper()
	authority, err := pki.NewAuthority()
	require.NoError(tb, err)
	request, err := pki.NewRequest()
	require.NoError(tb, err)
	der, err := authority.Issue(request.CSR, pki.Leaf{Identity: identity})
	require.NoError(tb, err)
	cert, err := request.Certificate(der)
	require.NoError(tb, err)
	pair := &pki.KeyPair{}
	pair.Set(cert)
	roots, err := pki.NewRoots(pki.MarshalCertificates(authority.Certificate()))
	require.NoError(tb, err)
	return pki.OpenServerConfig(pair), pki.ClientConfig(nil, roots, pki.Controller)
}

// connectRelay serves the relay until the test ends.
func connectRelay(tb testing.TB, r *relay, opts RelayOptions) *Conn {
	tb.Helper()
	server, client := certify(tb, pki.Controller)
	return connectRelayWith(tb, r, opts, server, client)
}

func connectRelayWith(tb testing.TB, r *relay, opts RelayOptions, server, client *tls.Config) *Conn {
	tb.Helper()
	r.listen = bufconn.Listen(1 << 20)
	listener, relays := r.listen, grpc.NewServer(grpc.Creds(credentials.NewTLS(server)))
	wire.RegisterRelayServer(relays, r)
	served := make(chan error, 1)
	go func() { served <- relays.Serve(listener) }()
	opts.Dial, opts.TLS = r.dial, client
	conn, err := DialRelay(opts)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
		relays.Stop()
		require.NoError(tb, <-served)
	})
	return conn
}

func session(id string, nodes ...string) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Session{Session: &wire.Session{
		Id: id, Protocol: wire.Current(), Nodes: nodes,
	}}}
}

// from marks a message as the relay does.
func from(node uint32, sequence uint64, message *wire.RunResponse) *wire.RunResponse {
	message.Node, message.Sequence = node, sequence
	return message
}

func headerOf(node string) *wire.RunResponse {
	h := header()
	h.GetHeader().Node = &wire.Node{Name: node}
	return h
}

// records is a batch of records whose numbers begin with first.
func records(first uint64, count int) *wire.RunResponse {
	b := &wire.Batch{Sequence: first, Count: uint32(count)}
	for range count {
		b.Records = wire.AppendRecord(b.Records, 1, make([]byte, 8))
	}
	return &wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}}
}

func end(records uint64, loss *wire.Loss) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Records: records, Loss: loss}}}
}

func gone(node, reason string, loss *wire.Loss) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Gone{Gone: &wire.Gone{Node: node, Reason: reason, Loss: loss}}}
}

// drain reads a run to its end, and lists what came.
func drain(tb testing.TB, run *Run) ([]string, error) {
	tb.Helper()
	var got []string
	for {
		message, err := run.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		name := ""
		if node := run.Node(message.GetNode()); node != nil {
			name = " of " + node.Name
		}
		switch m := message.GetResponse().(type) {
		case *wire.RunResponse_Session:
			got = append(got, "session "+m.Session.GetId())
		case *wire.RunResponse_Header:
			got = append(got, "header"+name)
		case *wire.RunResponse_Batch:
			got = append(got, "batch"+name)
		case *wire.RunResponse_Notice:
			got = append(got, m.Notice.GetText())
		case *wire.RunResponse_Gone:
			got = append(got, "gone: "+m.Gone.GetNode()+": "+m.Gone.GetReason())
		case *wire.RunResponse_End:
			got = append(got, "end"+name)
		default:
			got = append(got, "unknown"+name)
		}
	}
}

func lossOf(l *wire.Loss) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Loss{Loss: l}}
}
