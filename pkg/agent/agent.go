// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/agent/heartbeat"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

const (
	// DefaultQueueSize is how much may wait for one client, in bytes.
	DefaultQueueSize = 8 << 20
	// DefaultMaxRuns is how many runs an agent serves at the same time.
	DefaultMaxRuns = 64
	// maxIdle is how long a client may stay connected without asking for anything.
	maxIdle = 15 * time.Minute
)

// Options say what an agent works with.
type Options struct {
	// Gadgets are those that can be run. Required.
	Gadgets *gadget.Catalog
	// Chooser chooses the kernel's types for each gadget. The agent closes it.
	Chooser *kernel.Chooser
	// Types are the running kernel's. With a Chooser only their source matters: it is
	// what clients are told who run nothing.
	Types kernel.Types
	// Node is the node's name.
	Node string
	// Containers are the node's; nil if they aren't known. The agent closes them.
	Containers *container.Registry
	// Heartbeat proves that events flow; nil does without. The agent closes it.
	Heartbeat *heartbeat.Heartbeat
	// BufferSize is that of the kernel's event buffer in bytes if the client doesn't
	// say; 0: tracer.DefaultBufferSize.
	BufferSize int
	// CgroupBudget is how many events a second one cgroup may make in one program; 0 is
	// any number.
	CgroupBudget uint32
	// QueueSize bounds what waits for one client, in bytes; 0: DefaultQueueSize.
	QueueSize int
	// MaxRuns bounds the number of runs at a time; 0: DefaultMaxRuns.
	MaxRuns int
	// Sessions bound what trace sessions may take; zero values have their defaults.
	Sessions SessionLimits
	// Log gets one line for each run; nil discards them.
	Log *slog.Logger
}

// Agent serves the wire.Agent service.
type Agent struct {
	wire.UnimplementedAgentServer
	opts    Options
	setup   Setup
	started time.Time
	runs    atomic.Int64
	ledger  ledger
	doctor  doctor
	// programs are what is loaded for runs and sessions.
	programs *programs
	// sessions are the trace sessions that this node records.
	sessions *sessions
	// announced says that all was looked for that Announce looks for. What it did not
	// find is why: types, containers and a heartbeat.
	announced                atomic.Bool
	untyped, blind, beatless error
	// unable are the gadgets that can't run with the types that were found.
	unable []string
	// stale says that the API server doesn't tell of pods.
	stale atomic.Bool
	// confined is what gadgets can't show because of where this process is.
	confined confinement
	// pair is the agent's certificate, nil if it needs none, and roots who may have
	// signed the controller's.
	pair  *pki.KeyPair
	roots *pki.Roots
	// tasks run while the agent serves; done are called at its end.
	tasks []task
	done  []func()
	// types are shared by runs that start within typesLifetime of another.
	types typeCache
	// stopping ends when the agent shuts down, and with it every run.
	stopping context.Context
	stopRuns context.CancelFunc
}

// New makes an agent. It loads nothing until a client asks for it.
func New(opts Options) *Agent {
	if opts.QueueSize == 0 {
		opts.QueueSize = DefaultQueueSize
	}
	if opts.MaxRuns == 0 {
		opts.MaxRuns = DefaultMaxRuns
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{opts: opts, started: time.Now()}
	a.programs = newPrograms(a)
	a.sessions = newSessions(a, opts.Sessions)
	a.stopping, a.stopRuns = context.WithCancel(context.Background())
	return a
}

// Close releases what the agent has open. Its runs should have ended.
func (a *Agent) Close() {
	a.stopRuns()
	a.programs.shutdown()
	if a.opts.Chooser != nil {
		a.opts.Chooser.Close()
	}
	if a.opts.Containers != nil {
		a.opts.Containers.Close()
	}
	if a.opts.Heartbeat != nil {
		a.opts.Heartbeat.Close()
	}
	for _, done := range a.done {
		done()
	}
}

// NewServer makes a gRPC server with the limits of pkg/wire and the agent on it.
func NewServer(a *Agent, opts ...grpc.ServerOption) *grpc.Server {
	opts = append(opts,
		grpc.MaxRecvMsgSize(wire.MaxMessage),
		grpc.InitialWindowSize(wire.Window),
		grpc.InitialConnWindowSize(wire.Window),
		grpc.MaxConcurrentStreams(uint32(4*a.opts.MaxRuns)),
		grpc.ConnectionTimeout(10*time.Second),
		// A client whose machine vanished is noticed within half a minute.
		// One without runs is let go after a while.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: maxIdle}),
		grpc.MaxHeaderListSize(16<<10),
		// Clients do the same; by default a server hangs up on who asks more often than every five minutes.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	server := grpc.NewServer(opts...)
	wire.RegisterAgentServer(server, a)
	return server
}

// Catalog is part of wire.AgentServer.
func (a *Agent) Catalog(context.Context, *wire.CatalogRequest) (*wire.CatalogResponse, error) {
	response := &wire.CatalogResponse{}
	for _, name := range a.opts.Gadgets.Names() {
		object, err := a.opts.Gadgets.Object(name)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		response.Gadgets = append(response.Gadgets, wire.FromSpec(&object.Spec))
	}
	return response, nil
}

// Run is part of wire.AgentServer.
func (a *Agent) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	defer a.rest()
	if a.runs.Add(1) > int64(a.opts.MaxRuns) {
		return status.Errorf(codes.ResourceExhausted, "the agent serves %d runs already, its limit", a.opts.MaxRuns)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return status.Error(codes.InvalidArgument, "the first message of a run is not start")
	}
	if err := wire.CheckVersion(start.GetProtocol()); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if attach := start.GetAttach(); attach != nil {
		return a.attach(stream, attach)
	}
	log := a.opts.Log.With("gadget", start.GetGadget(), "peer", peerOf(stream.Context()))
	log.Info("run starts", "filter", start.GetFilter(), "params", start.GetParams())
	err = a.run(stream, start)
	log.Info("run ended", "error", err)
	return err
}

// rest ends a run. Without any the agent gives back what they have used: the node's
// memory is better used by its pods.
func (a *Agent) rest() {
	if a.runs.Add(-1) == 0 {
		// The client needn't wait for it.
		go debug.FreeOSMemory()
	}
}

// peerOf is who calls, by address.
func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// Arch is this machine's architecture by the name that gadget objects bear.
func Arch() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

// bootTime is the Unix time in nanoseconds at which CLOCK_BOOTTIME was zero.
func bootTime() (int64, error) {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return 0, fmt.Errorf("reading CLOCK_BOOTTIME: %w", err)
	}
	return time.Now().UnixNano() - boot.Nano(), nil
}

// grpcError gives err the status code that tells the client whose fault it is.
func grpcError(err error, verbose bool) error {
	var unknown *gadget.UnknownError
	text := err.Error()
	if verbose {
		text = verboseError(err)
	}
	switch {
	case errors.As(err, &unknown):
		return status.Error(codes.NotFound, text)
	case errors.Is(err, errUsage):
		return status.Error(codes.InvalidArgument, text)
	case isTypesError(err), errors.Is(err, errUnsupported):
		return status.Error(codes.FailedPrecondition, text)
	}
	return status.Error(codes.Internal, text)
}
