// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	builtin "nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/version"
	"nodegadget.dev/pkg/wire"
)

func TestMain(m *testing.M) {
	if !floods() {
		goleak.VerifyTestMain(m)
	}
}

func catalog(tb testing.TB) *gadget.Catalog {
	tb.Helper()
	c, err := gadget.NewCatalog(builtin.Objects(), Arch())
	require.NoError(tb, err)
	return c
}

// types are those of a kernel that isn't asked: nothing in these tests gets so far.
var types = kernel.Types{Source: kernel.Source{Kind: kernel.InKernel, Path: "/sys/kernel/btf/vmlinux", Release: "6.1.0-test"}}

// dial serves an agent in memory until the test ends.
func dial(tb testing.TB, a *Agent) wire.AgentClient {
	tb.Helper()
	listener := bufconn.Listen(1 << 20)
	server := NewServer(a)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(tb, err)
	tb.Cleanup(func() {
		conn.Close()
		server.Stop()
		require.NoError(tb, <-served)
	})
	return wire.NewAgentClient(conn)
}

// start runs a gadget with a client of this version and returns the first answer.
func start(tb testing.TB, client wire.AgentClient, request *wire.Start) (*wire.RunResponse, error) {
	tb.Helper()
	if request.Protocol == nil {
		request.Protocol = wire.Current()
	}
	return send(tb, client, &wire.RunRequest{Request: &wire.RunRequest_Start{Start: request}})
}

func send(tb testing.TB, client wire.AgentClient, request *wire.RunRequest) (*wire.RunResponse, error) {
	tb.Helper()
	stream, err := client.Run(tb.Context())
	require.NoError(tb, err)
	// A run that is refused at once has ended already; Recv says why.
	if err := stream.Send(request); !errors.Is(err, io.EOF) {
		require.NoError(tb, err)
	}
	return stream.Recv()
}

func TestInfoSaysWhichNodeThisIs(t *testing.T) {
	client := dial(t, New(Options{Gadgets: catalog(t), Types: types, Node: "worker-1"}))
	info, err := client.Info(t.Context(), &wire.InfoRequest{})
	require.NoError(t, err)
	require.NoError(t, wire.CheckVersion(info.GetProtocol()))
	require.Equal(t, version.Version, info.GetAgentVersion())
	require.Equal(t, "worker-1", info.GetNode().GetName())
	require.Equal(t, "6.1.0-test", info.GetNode().GetKernel())
	require.Equal(t, Arch(), info.GetNode().GetArch())
	require.Equal(t, "kernel 6.1.0-test: BTF in-kernel from /sys/kernel/btf/vmlinux", info.GetNode().GetBtf())
}

func TestCatalogHasEveryGadget(t *testing.T) {
	gadgets := catalog(t)
	client := dial(t, New(Options{Gadgets: gadgets, Types: types}))
	response, err := client.Catalog(t.Context(), &wire.CatalogRequest{})
	require.NoError(t, err)
	var names []string
	for _, g := range response.GetGadgets() {
		spec, err := g.Spec()
		require.NoError(t, err)
		object, err := gadgets.Object(spec.Name)
		require.NoError(t, err)
		require.Equal(t, &object.Spec, spec)
		names = append(names, spec.Name)
	}
	require.Equal(t, gadgets.Names(), names)
}

func TestCatalogWithABrokenObjectIsAnError(t *testing.T) {
	broken, err := gadget.NewCatalog(fstest.MapFS{"trace_x/gadget.x86_64.o": {Data: []byte("\x7fELF")}}, "x86_64")
	require.NoError(t, err)
	_, err = dial(t, New(Options{Gadgets: broken})).Catalog(t.Context(), &wire.CatalogRequest{})
	require.Equal(t, codes.Internal, status.Code(err))
	require.ErrorContains(t, err, "reading gadget trace_x/gadget.x86_64.o")
}

// TestBadRequestsAreRefusedBeforeAnythingIsLoaded, with a code that says whose
// fault it is and a text that says what to do.
func TestBadRequestsAreRefusedBeforeAnythingIsLoaded(t *testing.T) {
	many := map[string]string{}
	for i := range wire.MaxParams + 1 {
		many[fmt.Sprint("p", i)] = "1"
	}
	client := dial(t, New(Options{Gadgets: catalog(t), Types: types}))
	for _, test := range []struct {
		name  string
		start *wire.Start
		code  codes.Code
		want  string
	}{
		{"no gadget", &wire.Start{}, codes.NotFound, `unknown gadget ""`},
		{"unknown gadget", &wire.Start{Gadget: "trace_opem"}, codes.NotFound, `unknown gadget "trace opem", known are: profile runqlat, snapshot process`},
		{"path for a gadget", &wire.Start{Gadget: "../../etc/passwd"}, codes.NotFound, `unknown gadget "../../etc/passwd"`},
		{"unknown parameter", &wire.Start{Gadget: "trace_open", Params: map[string]string{"pids": "1"}}, codes.InvalidArgument, `has no parameter "pids"`},
		{"bad parameter", &wire.Start{Gadget: "trace_open", Params: map[string]string{"pid": "x"}}, codes.InvalidArgument, `--pid is "x", want a number`},
		{"too many parameters", &wire.Start{Gadget: "trace_open", Params: many}, codes.InvalidArgument, "65 parameters, at most 64 are taken"},
		{"bad filter", &wire.Start{Gadget: "trace_open", Filter: "pid =="}, codes.InvalidArgument, "filter: 1:7: Syntax error"},
		{"filter by unknown field", &wire.Start{Gadget: "trace_open", Filter: "pidd == 1"}, codes.InvalidArgument, `unknown field "pidd", known are: timestamp`},
		{"filter that is too long", &wire.Start{Gadget: "trace_open", Filter: strings.Repeat("x", 5000)}, codes.InvalidArgument, "at most 4096"},
		{"huge buffer", &wire.Start{Gadget: "trace_open", BufferSize: 1 << 62}, codes.InvalidArgument, "want 1 to 268435456"},
		{"short interval", &wire.Start{Gadget: "top_syscall", Interval: 1}, codes.InvalidArgument, "interval of 1ns, want at least 10ms"},
		{"negative interval", &wire.Start{Gadget: "top_syscall", Interval: -1}, codes.InvalidArgument, "interval of -1ns"},
		{"unknown alternative", &wire.Start{Gadget: "trace_open", Alternatives: map[string]string{"exit": "magic"}}, codes.InvalidArgument, "exit=magic"},
		{"unknown group", &wire.Start{Gadget: "trace_open", Alternatives: map[string]string{"entry": "tp_btf"}}, codes.InvalidArgument, "known are: exit=tp_btf, exit=raw_tracepoint"},
		{"newer client", &wire.Start{Gadget: "trace_open", Protocol: &wire.Version{Major: 2}}, codes.FailedPrecondition, "protocol version 2.0 of the peer doesn't go with 1.2"},
		{"client without a version", &wire.Start{Gadget: "trace_open", Protocol: &wire.Version{}}, codes.FailedPrecondition, "protocol version 0.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := start(t, client, test.start)
			require.Equal(t, test.code, status.Code(err), "%v", err)
			require.Contains(t, status.Convert(err).Message(), test.want)
			require.NotContains(t, status.Convert(err).Message(), "\n")
		})
	}
}

func TestFirstMessageMustBeStart(t *testing.T) {
	client := dial(t, New(Options{Gadgets: catalog(t)}))
	for _, request := range []*wire.RunRequest{{}, {Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}}} {
		_, err := send(t, client, request)
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.ErrorContains(t, err, "the first message of a run is not start")
	}
}

func TestClientThatLeavesAtOnceIsForgotten(t *testing.T) {
	a := New(Options{Gadgets: catalog(t)})
	stream, err := dial(t, a).Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.Error(t, err)
	require.Eventually(t, func() bool { return a.runs.Load() == 0 }, 5*time.Second, time.Millisecond)
}

func TestNumberOfRunsIsLimited(t *testing.T) {
	const limit = 3
	a := New(Options{Gadgets: catalog(t), MaxRuns: limit})
	client := dial(t, a)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range limit {
		_, err := client.Run(ctx)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return a.runs.Load() == limit }, 5*time.Second, time.Millisecond)
	_, err := start(t, client, &wire.Start{Gadget: "trace_x"})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.ErrorContains(t, err, "the agent serves 3 runs already, its limit")
	// Those that are refused don't count.
	require.Eventually(t, func() bool { return a.runs.Load() == limit }, 5*time.Second, time.Millisecond)
	leave()
	require.Eventually(t, func() bool { return a.runs.Load() == 0 }, 5*time.Second, time.Millisecond)
	_, err = start(t, client, &wire.Start{Gadget: "trace_x"})
	require.Equal(t, codes.NotFound, status.Code(err), "there is room again")
}

func TestHugeRequestIsRefused(t *testing.T) {
	client := dial(t, New(Options{Gadgets: catalog(t)}))
	_, err := start(t, client, &wire.Start{Gadget: "trace_open", Filter: strings.Repeat("x", wire.MaxMessage)})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
}

// buffer is one that may be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestEachRunIsLoggedOnTwoLines, whatever the client puts into its request.
func TestEachRunIsLoggedOnTwoLines(t *testing.T) {
	var log buffer
	client := dial(t, New(Options{Gadgets: catalog(t), Log: slog.New(slog.NewTextHandler(&log, nil))}))
	_, err := start(t, client, &wire.Start{Gadget: "trace_\x1b[2J\n", Filter: "comm == \"\n\""})
	require.Equal(t, codes.NotFound, status.Code(err))
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "run ended") }, 5*time.Second, time.Millisecond)
	require.Equal(t, 2, strings.Count(log.String(), "\n"))
	require.NotContains(t, log.String(), "\x1b")
}

func TestErrorsAreTheClientsOrTheAgents(t *testing.T) {
	for _, test := range []struct {
		err  error
		code codes.Code
	}{
		{&gadget.UnknownError{Name: "x"}, codes.NotFound},
		{fmt.Errorf("looking: %w", &gadget.UnknownError{Name: "x"}), codes.NotFound},
		{usageError{errors.New("bad filter")}, codes.InvalidArgument},
		{errors.New("no memory"), codes.Internal},
	} {
		for _, verbose := range []bool{false, true} {
			got := grpcError(test.err, verbose)
			require.Equal(t, test.code, status.Code(got))
			require.Equal(t, test.err.Error(), status.Convert(got).Message())
		}
	}
}

// TestVerboseErrorHasEveryVerifierLog: each attempt has one.
func TestVerboseErrorHasEveryVerifierLog(t *testing.T) {
	verifier := func(log ...string) error {
		return fmt.Errorf("loading: %w", &ebpf.VerifierError{Cause: os.ErrPermission, Log: log})
	}
	err := fmt.Errorf("opening: %w", &tracer.UnsupportedError{Gadget: "trace_x", Group: "exit", Attempts: []tracer.Attempt{
		{Alternative: "a", Program: "tp_btf/x", Err: verifier("0: R1=ctx() R10=fp0", "1: (85) call 4711", "2: (95) exit", "R1 invalid mem access")},
		{Alternative: "b", Program: "raw_tp/x", Err: errors.New("not there")},
		{Alternative: "c", Program: "kprobe/x", Err: errors.Join(verifier("R2 min value is negative"), errors.New("and more"))},
	}})
	text := status.Convert(grpcError(err, true)).Message()
	for _, want := range []string{err.Error(), "1: (85) call 4711", "R1 invalid mem access", "not there", "R2 min value is negative"} {
		require.Contains(t, text, want)
	}
	require.Equal(t, 1, strings.Count(text, "(85) call"))
	require.NotContains(t, status.Convert(grpcError(err, false)).Message(), "(85) call")
	require.Empty(t, verifierLogs(errors.New("no log")))
	require.Equal(t, []string{": permission denied:\n\tonly"}, verifierLogs(&ebpf.VerifierError{Cause: os.ErrPermission, Log: []string{"only"}}))
}

func TestVerboseErrorFitsIntoAMessage(t *testing.T) {
	text := verboseError(errors.New(strings.Repeat("a", 2*wire.MaxMessage)))
	require.Less(t, len(text), wire.MaxMessage/3)
	require.Contains(t, text, "\n[…]\n")
}

func TestBootTimeIsBeforeNow(t *testing.T) {
	boot, err := bootTime()
	require.NoError(t, err)
	require.Positive(t, boot)
	require.Less(t, boot, time.Now().UnixNano())
}

// BenchmarkPrepare is what a run costs before it is loaded.
func BenchmarkPrepare(b *testing.B) {
	b.ReportAllocs()
	a := New(Options{Gadgets: catalog(b)})
	request := &wire.Start{Gadget: "trace_open", Filter: `comm == "cat" && errno != 0`}
	for b.Loop() {
		plan, err := a.prepare(request)
		require.NoError(b, err)
		require.NotNil(b, plan.filter)
	}
}
