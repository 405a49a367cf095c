// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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

func TestManyNodesInOneRun(t *testing.T) {
	r := &relay{acts: []act{{answers: []*wire.RunResponse{
		from(0, 1, session("s", "a", "b", "c")),
		from(1, 2, headerOf("a")), from(2, 3, headerOf("b")),
		from(3, 4, gone("c", "no BTF", nil)),
		from(0, 5, records(0, 4)), from(1, 6, lossOf(&wire.Loss{Queue: 1})),
		from(2, 8, &wire.RunResponse{}), // Of a newer relay.
		from(2, 9, gone("b", "the agent doesn't answer", &wire.Loss{Kernel: 4, Unresolved: 1})),
		from(4, 10, headerOf("d")), // Joins later.
		from(2, 11, headerOf("b")), // Comes back and counts anew.
		from(0, 12, records(6, 2)), // The relay dropped two.
		from(0, 13, lossOf(&wire.Loss{Relay: 1})),
		from(2, 14, end(2, &wire.Loss{Kernel: 1})),
		from(1, 15, end(6, &wire.Loss{Queue: 1, Withheld: 2})), from(4, 16, end(0, nil)),
		from(0, 17, end(10, &wire.Loss{Kernel: 5, Queue: 1, Relay: 2, Unresolved: 1, Withheld: 2})),
	}}}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{Gadget: "trace_x"})
	require.NoError(t, err)
	got, err := drain(t, run)
	require.NoError(t, err)
	require.Equal(t, []string{
		"session s", "header of a", "header of b", "gone: c: no BTF", "batch", "unknown of a", "unknown of b",
		"gone: b: the agent doesn't answer", "header of d", "header of b", "batch", "unknown", "end of b", "end of a", "end of d", "end",
	}, got)
	counts := map[string]Counts{}
	for _, node := range run.Nodes() {
		require.False(t, node.Live(), node.Name)
		counts[node.Name] = node.Counts()
	}
	require.Equal(t, map[string]Counts{
		"a": {Queue: 1, Withheld: 2}, "b": {Kernel: 5, Unresolved: 1}, "c": {}, "d": {},
	}, counts)
	require.Equal(t, Counts{Received: 6, Kernel: 5, Queue: 1, Relay: 2, Missing: 1, Unresolved: 1, Withheld: 2}, run.Counts())
	require.EqualValues(t, 9, run.Counts().Lost())
	require.True(t, run.Ended())
	require.Equal(t, []bool{false, true, false, false}, []bool{
		run.Nodes()[0].Vanished, run.Nodes()[1].Vanished, run.Nodes()[2].Vanished, run.Nodes()[3].Vanished,
	}, "what never began hasn't vanished")
	require.Zero(t, run.Missed())
}

// TestOneBadNodeCostsOnlyItself: a node that sends what can't be used doesn't end
// the run of the others.
func TestOneBadNodeCostsOnlyItself(t *testing.T) {
	hostile := headerOf("h")
	hostile.GetHeader().GetGadget().GetSource().GetFields()[0].Size = 1 << 30
	newer := headerOf("n")
	newer.GetHeader().Protocol = &wire.Version{Major: 2}
	r := &relay{acts: []act{{answers: []*wire.RunResponse{
		from(0, 1, session("s", "a")),
		from(1, 2, hostile), from(2, 3, newer), from(3, 4, headerOf("a")), from(3, 5, end(0, nil)), from(0, 6, end(0, nil)),
	}}}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	got, err := drain(t, run)
	require.NoError(t, err)
	require.Contains(t, got[1], `gone: h: gadget "trace_x": field "n" lies outside`)
	require.Contains(t, got[2], "gone: n: protocol version 2.0 of the peer")
	require.Equal(t, []string{"header of a", "end of a", "end"}, got[3:])
}

func TestDamagedBatchOfARelayIsAnError(t *testing.T) {
	damaged := records(0, 1)
	damaged.GetBatch().Count = 9
	r := &relay{acts: []act{{answers: []*wire.RunResponse{from(0, 1, session("s", "a")), from(1, 2, headerOf("a")), from(0, 3, damaged)}}}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	_, err = drain(t, run)
	require.ErrorIs(t, err, wire.ErrFraming)
}

func TestBrokenRunIsResumed(t *testing.T) {
	lost := status.Error(codes.Unavailable, "EOF")
	// It says what is there, and repeats what was missed, without numbers.
	resumed := from(0, 5, session("s", "a", "c"))
	resumed.GetSession().MissedMessages, resumed.GetSession().MissedRecords = 2, 5
	r := &relay{acts: []act{
		{answers: []*wire.RunResponse{
			from(0, 1, session("s", "a", "b")), from(1, 2, headerOf("a")), from(2, 2, headerOf("b")),
			from(0, 3, records(0, 1)), from(1, 3, lossOf(&wire.Loss{Kernel: 3})),
		}, end: lost},
		{end: lost}, // The first attempt doesn't succeed.
		{answers: []*wire.RunResponse{
			resumed, from(1, 0, headerOf("a")), from(3, 0, headerOf("c")),
			from(0, 5, records(0, 1)), // Has arrived, or is counted as missed.
			from(0, 6, records(6, 1)), from(1, 7, end(7, &wire.Loss{Kernel: 3})), from(0, 8, end(7, &wire.Loss{Kernel: 3})),
		}},
	}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{Gadget: "trace_x"})
	require.NoError(t, err)
	got, err := drain(t, run)
	require.NoError(t, err)
	require.Equal(t, []string{
		"session s", "header of a", "batch", "connection lost: EOF; connecting again",
		"session s", "header of a", "header of c", "batch", "end of a", "end",
	}, got, "what had arrived isn't handed out twice")
	require.Equal(t, Counts{Received: 2, Missing: 5, Kernel: 3}, run.Counts())
	require.Equal(t, Missed{Breaks: 1, Messages: 2, Records: 5}, run.Missed())
	require.Equal(t, "trace_x", r.requests[0].GetStart().GetGadget())
	for _, request := range r.requests[1:] {
		require.Equal(t, "s", request.GetResume().GetSession())
		require.EqualValues(t, 3, request.GetResume().GetAfter())
		require.EqualValues(t, wire.Major, request.GetResume().GetProtocol().GetMajor())
	}
	require.False(t, run.Nodes()[0].Vanished)
	require.Equal(t, "it wasn't there any more when the connection was", run.Nodes()[1].Gone)
}

// TestForgottenSessionIsBegunAnew: a relay that was restarted knows nothing.
func TestForgottenSessionIsBegunAnew(t *testing.T) {
	for _, code := range []codes.Code{codes.NotFound, codes.OutOfRange} {
		r := &relay{acts: []act{
			{answers: []*wire.RunResponse{
				from(0, 1, session("s", "a", "b")), from(1, 2, headerOf("a")), from(2, 3, headerOf("b")), from(0, 4, records(0, 3)),
				from(2, 5, lossOf(&wire.Loss{Kernel: 2})),
			}, end: status.Error(codes.Unavailable, "EOF")},
			{end: status.Error(code, "no such session")},
			{answers: []*wire.RunResponse{
				from(0, 1, session("t", "b")), from(1, 2, headerOf("b")), from(0, 3, records(0, 2)),
				from(1, 4, end(3, &wire.Loss{Kernel: 1})), from(0, 5, end(3, &wire.Loss{Kernel: 1})),
			}},
		}}
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{Gadget: "trace_x"})
		require.NoError(t, err)
		got, err := drain(t, run)
		require.NoError(t, err)
		require.Equal(t, []string{"session t", "header of b", "batch", "end of b", "end"}, got[6:])
		require.Equal(t, Missed{Breaks: 1, Restarts: 1}, run.Missed())
		require.NotEmpty(t, run.Nodes()[0].Gone)
		require.Equal(t, Counts{Received: 5, Kernel: 3, Missing: 1}, run.Counts())
		require.Equal(t, "trace_x", r.requests[2].GetStart().GetGadget())
	}
}

func TestVerdictsAreNotRetried(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.PermissionDenied: "not yours", codes.Unauthenticated: "not yours", codes.Internal: "not yours", codes.ResourceExhausted: "not yours",
	} {
		r := &relay{acts: []act{{answers: []*wire.RunResponse{session("s")}, end: status.Error(code, "not yours")}}}
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		_, err = drain(t, run)
		require.EqualError(t, err, want)

		r.acts = []act{{answers: []*wire.RunResponse{session("s")}, end: status.Error(codes.Unavailable, "EOF")}, {end: status.Error(code, "not yours")}}
		run, err = connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		_, err = drain(t, run)
		require.EqualError(t, err, "resuming the run: not yours", "the same when resuming")
	}
}

func TestResumingEnds(t *testing.T) {
	broken := func() *relay {
		return &relay{acts: []act{{answers: []*wire.RunResponse{session("s")}, end: status.Error(codes.Unavailable, "EOF")}}}
	}
	t.Run("by time", func(t *testing.T) {
		r := broken()
		run, err := connectRelay(t, r, RelayOptions{Retry: time.Millisecond}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		for range 20 {
			r.acts = append(r.acts, act{end: status.Error(codes.Unavailable, "gone fishing")})
		}
		_, err = drain(t, run)
		require.ErrorContains(t, err, "the connection broke, and none could be made for 1ms: gone fishing")
	})
	t.Run("by stop", func(t *testing.T) {
		r := broken()
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		for range 20 {
			r.acts = append(r.acts, act{end: status.Error(codes.Unavailable, "gone fishing")})
		}
		time.AfterFunc(50*time.Millisecond, run.Stop)
		_, err = drain(t, run)
		require.ErrorContains(t, err, "the run was stopped while its connection was broken: EOF")
	})
	t.Run("by context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := broken()
		for range 20 {
			r.acts = append(r.acts, act{end: status.Error(codes.Unavailable, "gone fishing")})
		}
		run, err := connectRelay(t, r, RelayOptions{}).Run(ctx, &wire.Start{})
		require.NoError(t, err)
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err = drain(t, run)
		require.ErrorContains(t, err, "context canceled")
	})
}

// TestStopReachesTheResumedRun: it may come while there is no connection.
func TestStopReachesTheResumedRun(t *testing.T) {
	r := &relay{acts: []act{
		{answers: []*wire.RunResponse{session("s", "a"), from(1, 2, headerOf("a"))}, end: status.Error(codes.Unavailable, "EOF")},
		{answers: []*wire.RunResponse{session("s")}, until: "stop"},
	}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	for {
		message, err := run.Next()
		require.NoError(t, err)
		if r.asked() == 2 && message.GetSession() != nil {
			break
		}
	}
	run.Stop()
	_, err = drain(t, run)
	require.NoError(t, err)
}

func TestRelaysFirstMessageIsASession(t *testing.T) {
	newer := session("s")
	newer.GetSession().Protocol = &wire.Version{Major: 2}
	for want, answers := range map[string][]*wire.RunResponse{
		"the relay's first message is not a session":           {headerOf("a")},
		"the relay ended the run before it began":              nil,
		"protocol version 2.0 of the peer doesn't go with 1.1": {newer},
	} {
		run, err := connectRelay(t, &relay{acts: []act{{answers: answers}}}, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.ErrorContains(t, err, want)
		require.Nil(t, run)
	}
}

func TestWhoIsNotTheRelayGetsNothing(t *testing.T) {
	asked := false
	opts := RelayOptions{Headers: func(context.Context) (http.Header, error) {
		return http.Header{"Authorization": {"Bearer secret"}}, nil
	}}
	identity, err := pki.Agent("node1")
	require.NoError(t, err)
	for name, configs := range map[string]func() (server, client *tls.Config){
		"another authority": func() (*tls.Config, *tls.Config) {
			server, _ := certify(t, pki.Controller)
			_, client := certify(t, pki.Controller)
			return server, client
		},
		"another identity": func() (*tls.Config, *tls.Config) { return certify(t, identity) },
	} {
		t.Run(name, func(t *testing.T) {
			server, client := configs()
			r := &relay{acts: []act{{}}}
			_, err := connectRelayWith(t, r, opts, server, client).Run(t.Context(), &wire.Start{})
			require.ErrorContains(t, err, "making sure that it is the relay")
			require.Empty(t, r.requests)
			require.False(t, asked)
		})
	}
	_, err = DialRelay(RelayOptions{Dial: func(context.Context) (net.Conn, error) { return nil, nil }})
	require.ErrorContains(t, err, "not spoken to without TLS")
}

func TestDialErrorsAreHandedOn(t *testing.T) {
	reason := errors.New("no controller is ready")
	conn := connectRelay(t, &relay{refuse: reason}, RelayOptions{})
	_, err := conn.Nodes(t.Context())
	require.ErrorIs(t, err, reason)
	_, err = conn.Run(t.Context(), &wire.Start{})
	require.ErrorIs(t, err, reason)
}

func TestHeadersGoWithEveryCall(t *testing.T) {
	headers := http.Header{
		"Authorization": {"Bearer t"}, "Impersonate-User": {"jane"}, "Impersonate-Group": {"a", "b"},
		"Impersonate-Extra-scopes": {"x", "y"},
	}
	var fail error
	r := &relay{acts: []act{{answers: []*wire.RunResponse{session("s")}}, {}}}
	conn := connectRelay(t, r, RelayOptions{Headers: func(context.Context) (http.Header, error) { return headers, fail }})
	_, err := conn.Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	response, err := conn.Nodes(t.Context())
	require.NoError(t, err)
	require.Equal(t, "v9", response.GetRelayVersion())
	for _, got := range r.headers {
		for name, values := range headers {
			require.Equal(t, values, got.Get(name), name)
		}
	}
	headers["Impersonate-Extra-Acme.com%2fproject"] = []string{"z"}
	_, err = conn.Nodes(t.Context())
	require.ErrorContains(t, err, "can't be sent to the relay")
	fail = errors.New("exec plugin: no such file")
	_, err = conn.Run(t.Context(), &wire.Start{})
	require.ErrorContains(t, err, "exec plugin: no such file")
}

// TestRelayOfAnotherMinorVersion: an older one sends fewer messages and fields, a
// newer one others.
func TestRelayOfAnotherMinorVersion(t *testing.T) {
	for _, minor := range []uint32{0, 9} {
		s, h := session("s"), headerOf("a")
		s.GetSession().Protocol.Minor, h.GetHeader().Protocol.Minor = minor, minor
		unknown := records(0, 1)
		unknown.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 2, 'h', 'i'}) // Field 127.
		r := &relay{acts: []act{{answers: []*wire.RunResponse{
			s, from(1, 2, h), from(1, 3, unknown), from(1, 4, &wire.RunResponse{}), from(1, 5, end(1, nil)),
		}}}}
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		got, err := drain(t, run)
		require.NoError(t, err)
		require.Equal(t, "session s, header of a, batch of a, unknown of a, end of a", strings.Join(got, ", "))
	}
}

// TestOldAgentCantSelect: it would send everything, and nobody would know.
func TestOldAgentCantSelect(t *testing.T) {
	old := header()
	old.GetHeader().Protocol.Minor = 0
	run, err := connect(t, &script{answers: []*wire.RunResponse{old}}).Run(t.Context(), &wire.Start{Selector: &wire.Selector{}})
	require.ErrorContains(t, err, "the agent is too old to know containers")
	require.Nil(t, run)
	_, err = connect(t, &script{answers: []*wire.RunResponse{old}}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
}
