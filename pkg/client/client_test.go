// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is an agent that answers as a test wants.
type script struct {
	wire.UnimplementedAgentServer
	catalog *wire.CatalogResponse
	// answers are sent one after the other, whatever the client says.
	answers []*wire.RunResponse
	// end is how the run ends; wait lets it wait for stop first.
	end  error
	wait bool

	mu    sync.Mutex
	start *wire.Start
	stops int
}

func (s *script) Info(context.Context, *wire.InfoRequest) (*wire.InfoResponse, error) {
	return &wire.InfoResponse{AgentVersion: "v9"}, s.end
}

func (s *script) Catalog(context.Context, *wire.CatalogRequest) (*wire.CatalogResponse, error) {
	return s.catalog, s.end
}

func (s *script) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.start = first.GetStart()
	s.mu.Unlock()
	for _, answer := range s.answers {
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
	if s.wait {
		// Until the client has no more to say.
		for {
			request, err := stream.Recv()
			if err != nil {
				break
			}
			if request.GetStop() != nil {
				s.mu.Lock()
				s.stops++
				s.mu.Unlock()
			}
		}
	}
	return s.end
}

// connect serves the script until the test ends.
func connect(tb testing.TB, s *script) *Conn {
	tb.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	wire.RegisterAgentServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := DialWith(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) })
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
		server.Stop()
		require.NoError(tb, <-served)
	})
	return conn
}

// begin starts a run of which the test wants to see what comes after the header.
func begin(tb testing.TB, conn *Conn) *Run {
	tb.Helper()
	run, err := conn.Run(tb.Context(), &wire.Start{})
	require.NoError(tb, err)
	first, err := run.Next()
	require.NoError(tb, err)
	require.NotNil(tb, first.GetHeader())
	return run
}

func header() *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Header{Header: &wire.Header{
		Protocol: wire.Current(),
		Gadget: &wire.Gadget{Name: "trace_x", Source: &wire.Source{
			Kind: uint32(gadget.Events), Size: 8, Fields: []*wire.Field{{Name: "n", Size: 8, Kind: uint32(gadget.Uint)}},
		}},
	}}}
}

func batch(count uint32, records []byte) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: &wire.Batch{Count: count, Records: records}}}
}

func TestDialRefusesAddresses(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		address, want string
		usage         bool
	}{
		{"", `agent address "" is not of the form unix:///path/to/socket`, true},
		{"/run/agent.sock", `is not of the form unix:///path/to/socket`, true},
		{"unix://run/agent.sock", `is not of the form unix:///path/to/socket`, true},
		{"tcp://127.0.0.1:80", `is not of the form unix:///path/to/socket`, true},
		{"unix://\x1b[2J", `agent address "unix://\x1b[2J" is not`, true},
		{
			"unix://" + dir + "/none.sock",
			"no agent at " + dir + "/none.sock: there is no such socket; start one with: gadget-agent serve --listen unix://" + dir + "/none.sock", false,
		},
	} {
		conn, err := Dial(test.address)
		require.ErrorContains(t, err, test.want)
		require.Nil(t, conn)
		var usage *UsageError
		require.Equal(t, test.usage, errors.As(err, &usage), test.address)
	}
}

func TestSocketThatNobodyServesIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	dead.SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{path, file} {
		conn, err := Dial("unix://" + path)
		require.NoError(t, err)
		_, err = conn.Catalog(t.Context())
		require.ErrorContains(t, err, "the agent can't be reached: ")
		_, err = conn.Nodes(t.Context())
		require.ErrorContains(t, err, "the agent can't be reached: ")
		_, err = conn.Run(t.Context(), &wire.Start{})
		require.ErrorContains(t, err, "the agent can't be reached: ")
		require.NoError(t, conn.Close())
	}
}

func TestRunRefusesWhatIsNoRun(t *testing.T) {
	newer, hostile, nameless := header(), header(), header()
	newer.GetHeader().Protocol = &wire.Version{Major: 2}
	hostile.GetHeader().GetGadget().GetSource().GetFields()[0].Size = 1 << 30
	nameless.GetHeader().Gadget = nil
	for _, test := range []struct {
		name    string
		answers []*wire.RunResponse
		end     error
		want    string
	}{
		{"nothing", nil, nil, "the agent ended the run before it began"},
		{"batch first", []*wire.RunResponse{batch(0, nil)}, nil, "the agent's first message is not a header"},
		{"message of a newer agent first", []*wire.RunResponse{{}}, nil, "the agent's first message is not a header"},
		{"newer protocol", []*wire.RunResponse{newer}, nil, "protocol version 2.0 of the peer doesn't go with 1.2"},
		{"field out of bounds", []*wire.RunResponse{hostile}, nil, `field "n" lies outside of any record`},
		{"no gadget", []*wire.RunResponse{nameless}, nil, "is not of the form verb_noun"},
		{"agent's error", nil, status.Error(codes.Internal, "no memory"), "no memory"},
		{"agent's refusal", nil, status.Error(codes.ResourceExhausted, "64 runs already"), "64 runs already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			run, err := connect(t, &script{answers: test.answers, end: test.end}).Run(t.Context(), &wire.Start{})
			require.ErrorContains(t, err, test.want)
			require.Nil(t, run)
			require.NotContains(t, err.Error(), "rpc error")
		})
	}
}

func TestUsersMistakesAreUsageErrors(t *testing.T) {
	for code, want := range map[codes.Code]bool{
		codes.InvalidArgument: true, codes.NotFound: true, codes.Internal: false, codes.FailedPrecondition: false, codes.ResourceExhausted: false,
	} {
		conn := connect(t, &script{end: status.Error(code, "so it is")})
		_, err := conn.Run(t.Context(), &wire.Start{})
		var usage *UsageError
		require.Equal(t, want, errors.As(err, &usage), code)
		require.EqualError(t, err, "so it is")
		_, err = conn.Catalog(t.Context())
		require.ErrorContains(t, err, "so it is")
		_, err = conn.Nodes(t.Context())
		require.ErrorContains(t, err, "so it is")
	}
}

func TestTextThatIsNotUTF8IsReported(t *testing.T) {
	conn := connect(t, &script{answers: []*wire.RunResponse{header()}})
	_, err := conn.Run(t.Context(), &wire.Start{Gadget: "trace_x", Params: map[string]string{"comm": "\xff"}})
	require.ErrorContains(t, err, "invalid UTF-8")
}

func TestNextHandsOutWhatTheAgentSends(t *testing.T) {
	s := &script{answers: []*wire.RunResponse{
		header(), batch(1, wire.AppendRecord(nil, 0, make([]byte, 8))),
		{Response: &wire.RunResponse_Loss{Loss: &wire.Loss{Kernel: 3}}},
		{}, // of a newer agent
		{Response: &wire.RunResponse_End{End: &wire.End{Records: 1}}},
	}}
	run, err := connect(t, s).Run(t.Context(), &wire.Start{Gadget: "trace_x"})
	require.NoError(t, err)
	require.Equal(t, "trace_x", run.Node(0).Spec.Name)
	require.Equal(t, uint32(wire.Major), s.start.GetProtocol().GetMajor())
	var got []string
	for {
		message, err := run.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch {
		case message.GetHeader() != nil:
			got = append(got, "header")
		case message.GetBatch() != nil:
			got = append(got, "batch")
		case message.GetLoss() != nil:
			got = append(got, "loss")
		case message.GetEnd() != nil:
			got = append(got, "end")
		default:
			got = append(got, "unknown")
		}
	}
	require.Equal(t, []string{"header", "batch", "loss", "unknown", "end"}, got)
	_, err = run.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestDamagedBatchIsAnError(t *testing.T) {
	whole := wire.AppendRecord(nil, 0, make([]byte, 8))
	for name, damaged := range map[string]*wire.RunResponse{
		"cut": batch(1, whole[:10]), "count": batch(2, whole), "length": batch(1, append([]byte{255, 255, 255, 255}, whole...)),
	} {
		run := begin(t, connect(t, &script{answers: []*wire.RunResponse{header(), damaged}}))
		message, err := run.Next()
		require.ErrorIs(t, err, wire.ErrFraming, name)
		require.Nil(t, message)
	}
}

func TestAgentThatDiesIsAnError(t *testing.T) {
	s := &script{answers: []*wire.RunResponse{header()}, end: status.Error(codes.Unavailable, "connection reset")}
	run := begin(t, connect(t, s))
	_, err := run.Next()
	require.EqualError(t, err, "connection reset")
}

// TestStopIsSentOnce, whoever asks for it and how often: a stream takes messages
// of one goroutine at a time.
func TestStopIsSentOnce(t *testing.T) {
	s := &script{answers: []*wire.RunResponse{header()}, wait: true}
	run := begin(t, connect(t, s))
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(run.Stop)
	}
	callers.Wait()
	require.NoError(t, run.stream.CloseSend())
	_, err := run.Next()
	require.ErrorIs(t, err, io.EOF)
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, 1, s.stops)
}

func TestEndOfContextEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	run, err := connect(t, &script{answers: []*wire.RunResponse{header()}, wait: true}).Run(ctx, &wire.Start{})
	require.NoError(t, err)
	cancel()
	_, err = run.Next()
	require.NoError(t, err, "the header has arrived")
	_, err = run.Next()
	require.ErrorContains(t, err, "context canceled")
	run.Stop()
}

func TestCatalogOfANewerAgent(t *testing.T) {
	newer := &wire.Gadget{Name: "watch_moon", Description: "show the phases of the moon", Source: &wire.Source{
		Kind: uint32(gadget.Events), Size: 12, Fields: []*wire.Field{{Name: "phase", Size: 12, Kind: 99, Semantic: "moon"}},
	}}
	specs, err := connect(t, &script{catalog: &wire.CatalogResponse{Gadgets: []*wire.Gadget{newer}}}).Catalog(t.Context())
	require.NoError(t, err)
	require.Len(t, specs, 1)
	require.Equal(t, "watch_moon", specs[0].Name)

	newer.Source.Fields[0].Offset = 1 << 31
	_, err = connect(t, &script{catalog: &wire.CatalogResponse{Gadgets: []*wire.Gadget{newer}}}).Catalog(t.Context())
	require.ErrorContains(t, err, `listing gadgets: gadget "watch_moon": field "phase" lies outside`)
}
