// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/wire"
)

// Defaults of Options.
const (
	DefaultWindow               = 100 * time.Millisecond
	DefaultMemory               = 8 << 20
	DefaultMergeMemory          = 8 << 20
	DefaultLinger               = 90 * time.Second // an API server that restarts is away for a minute
	DefaultOwnerLinger          = 15 * time.Second
	DefaultStall                = 30 * time.Second
	DefaultRecheck              = time.Minute
	DefaultUnanswered           = 15 * time.Minute // an API server that is away for ten ends nothing
	DefaultMaxSessions          = 32
	DefaultMaxSessionsPerCaller = 8
)

const (
	// firstTimeout is how long a client may take to say what it wants.
	firstTimeout = 10 * time.Second
	// maxNodes bounds the nodes that a client may name.
	maxNodes = 4096
	// maxDone bounds the sessions that are over but kept for their clients.
	maxDone = 16
	// maxRequest bounds a client's message in bytes.
	maxRequest = 256 << 10
	// maxHeaders bounds the metadata of a call in bytes; tokens are in it.
	maxHeaders = 64 << 10
)

// Options say what a relay works with.
type Options struct {
	// Fleet are the agents. Required.
	Fleet *Fleet
	// Gate says who calls and what they may. Required.
	Gate *access.Gate
	// Window is how long records wait for older ones of other nodes; 0: DefaultWindow.
	Window time.Duration
	// Memory is how many bytes are kept for one session's client; 0: DefaultMemory.
	Memory int
	// MergeMemory is how many bytes of one session wait to be merged; 0: DefaultMergeMemory.
	MergeMemory int
	// Linger is how long a session waits for a client whose connection broke; 0: DefaultLinger.
	Linger time.Duration
	// OwnerLinger is how long the session of a client waits that owns its trace session,
	// which goes on for nobody else. If the API server was away meanwhile, which is on the
	// client's way, it is Linger from when that is back. 0: DefaultOwnerLinger.
	OwnerLinger time.Duration
	// Stall is how long a client may read nothing; 0: DefaultStall.
	Stall time.Duration
	// Recheck is how often at least it is asked whether the caller of a run that goes on
	// may still see it; 0: DefaultRecheck.
	Recheck time.Duration
	// Unanswered is how long a run goes on after the last yes when the API server doesn't
	// say; 0: DefaultUnanswered, or twice Recheck if that is longer.
	Unanswered time.Duration
	// MaxSessions bounds the sessions at a time, MaxSessionsPerCaller those of one
	// caller; 0: DefaultMaxSessions and DefaultMaxSessionsPerCaller.
	MaxSessions, MaxSessionsPerCaller int
	// Log gets a line for each session; nil discards them.
	Log *slog.Logger
}

func (o *Options) complete() {
	setDefault(&o.Window, DefaultWindow)
	setDefault(&o.Memory, DefaultMemory)
	setDefault(&o.MergeMemory, DefaultMergeMemory)
	setDefault(&o.Linger, DefaultLinger)
	setDefault(&o.OwnerLinger, DefaultOwnerLinger)
	setDefault(&o.Stall, DefaultStall)
	setDefault(&o.Recheck, DefaultRecheck)
	setDefault(&o.Unanswered, max(DefaultUnanswered, 2*o.Recheck))
	setDefault(&o.MaxSessions, DefaultMaxSessions)
	setDefault(&o.MaxSessionsPerCaller, DefaultMaxSessionsPerCaller)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](value *T, to T) {
	var zero T
	if *value == zero {
		*value = to
	}
}

// Relay serves the wire.Relay service.
type Relay struct {
	wire.UnimplementedRelayServer
	opts Options
	// closing is closed when the relay shuts down; running are the sessions' goroutines.
	closing   chan struct{}
	closeOnce sync.Once
	running   sync.WaitGroup

	// records counts what agents sent, lost what clients had no room for in sessions
	// that are over, cutOff the clients that were given up.
	records, lost, cutOff atomic.Uint64
	withdrawn             withdrawals

	mu sync.Mutex
	// sessions are those that go on, done those whose last messages are kept, oldest first.
	sessions map[string]*session
	done     []*session
}

// New makes a relay. Close it at the end.
func New(opts Options) *Relay {
	opts.complete()
	return &Relay{opts: opts, closing: make(chan struct{}), sessions: map[string]*session{}}
}

// Close ends all sessions. Clients are told that the relay shuts down, and may go on
// with another one.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closeOnce.Do(func() { close(r.closing) })
	r.mu.Unlock()
	r.running.Wait()
}

// ServerOptions are those of a gRPC server that a relay is on.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.InitialWindowSize(wire.Window),
		grpc.InitialConnWindowSize(wire.Window),
		grpc.MaxConcurrentStreams(128),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 10 * time.Minute, Time: 20 * time.Second, Timeout: 10 * time.Second}),
		// Clients ask every ten seconds, so as to notice a broken connection in time to resume.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// Run is part of wire.RelayServer.
func (r *Relay) Run(stream serverStream) error {
	ctx := stream.Context()
	caller, err := r.opts.Gate.Authenticate(ctx)
	if err != nil {
		return err
	}
	received := requests(stream)
	timer := time.NewTimer(firstTimeout)
	defer timer.Stop()
	var first *wire.RunRequest
	select {
	case first = <-received:
	case <-timer.C:
		return status.Errorf(codes.DeadlineExceeded, "the client has not said within %s what it wants", firstTimeout)
	}
	switch request := first.GetRequest().(type) {
	case *wire.RunRequest_Start:
		s, err := r.begin(ctx, caller, request.Start)
		if err != nil {
			return err
		}
		return s.serve(stream, received, s.attach(ctx), nil)
	case *wire.RunRequest_Resume:
		return r.resume(stream, received, caller, request.Resume)
	}
	return status.Error(codes.InvalidArgument, "the first message of a run is neither start nor resume")
}

// begin starts a session if the caller may see what it would show.
func (r *Relay) begin(ctx context.Context, caller access.Caller, start *wire.Start) (*session, error) {
	if err := wire.CheckVersion(start.GetProtocol()); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	if len(start.GetParams()) > wire.MaxParams {
		return nil, status.Errorf(codes.InvalidArgument, "%d parameters, at most %d are taken", len(start.GetParams()), wire.MaxParams)
	}
	if len(start.GetNodes()) > maxNodes {
		return nil, status.Errorf(codes.InvalidArgument, "%d names of nodes, at most %d are taken", len(start.GetNodes()), maxNodes)
	}
	if err := r.may(ctx, caller, start); err != nil {
		return nil, err
	}
	present, _ := r.opts.Fleet.all(start.GetNodes())
	if len(present) == 0 {
		if len(start.GetNodes()) > 0 {
			return nil, status.Errorf(codes.NotFound, "there is no agent on any of the nodes %q", start.GetNodes())
		}
		return nil, status.Error(codes.Unavailable, "there are no agents in this cluster yet")
	}
	s := r.newSession(caller, start)
	if err := r.admit(s); err != nil {
		return nil, err
	}
	s.begin(present)
	r.opts.Log.Info("session begins", "session", s.String(), "caller", caller.String(), "gadget", start.GetGadget(),
		"selector", start.GetSelector(), "attach", start.GetAttach(), "nodes", len(present))
	go func() {
		defer r.running.Done()
		s.run()
	}()
	return s, nil
}

// admit counts the session and its goroutine, unless there are too many.
func (r *Relay) admit(s *session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closing:
		return status.Error(codes.Unavailable, "the relay is shutting down")
	default:
	}
	own := 0
	for _, other := range r.sessions {
		if other.caller.Same(s.caller) {
			own++
		}
	}
	switch {
	case own >= r.opts.MaxSessionsPerCaller:
		return status.Errorf(codes.ResourceExhausted, "user %q has %d runs already, the limit of one user", s.caller, own)
	case len(r.sessions) >= r.opts.MaxSessions:
		return status.Errorf(codes.ResourceExhausted, "the relay serves %d runs already, its limit", len(r.sessions))
	}
	r.sessions[s.id] = s
	r.running.Add(1)
	return nil
}

// over moves a session to those that are only kept for clients to come back to.
func (r *Relay) over(s *session) {
	records, lost := s.box.counts()
	r.lost.Add(lost)
	r.opts.Log.Info("session ended", "session", s.String(), "caller", s.caller.String(), "records", records, "dropped", lost, "error", s.box.err)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s.id)
	r.done = append(r.done, s)
	if len(r.done) > maxDone {
		close(r.done[0].dropped)
		r.done = r.done[1:]
	}
}

// forget drops what is kept of a session.
func (r *Relay) forget(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = slices.DeleteFunc(r.done, func(other *session) bool { return other == s })
}

// find returns the session with the id, nil if there is none.
func (r *Relay) find(id string) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[id]; s != nil {
		return s
	}
	for _, s := range r.done {
		if s.id == id {
			return s
		}
	}
	return nil
}

// resume goes on with a session of the same caller's.
func (r *Relay) resume(stream serverStream, received <-chan *wire.RunRequest, caller access.Caller, resume *wire.Resume) error {
	if err := wire.CheckVersion(resume.GetProtocol()); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	s := r.find(resume.GetSession())
	// Whether somebody else has such a session is nobody's business.
	if s == nil || !s.caller.Same(caller) {
		return status.Error(codes.NotFound, "there is no such session: it has ended, or was in another relay")
	}
	// Rights may have been taken away meanwhile.
	if err := r.may(stream.Context(), caller, s.start); err != nil {
		return err
	}
	a := s.attach(stream.Context())
	from, messages, records, err := s.box.resume(resume.GetAfter())
	if err != nil {
		s.detach(a)
		return err
	}
	// It bears the number of the last message that won't come, those behind it none.
	welcome := s.message(s.names())
	welcome.Sequence = from
	welcome.GetSession().MissedMessages, welcome.GetSession().MissedRecords = messages, records
	first := []*wire.RunResponse{welcome}
	if messages > 0 {
		first = append(first, s.recall(from)...)
	}
	r.opts.Log.Info("session resumed", "session", s.String(), "caller", caller.String(), "missed", records)
	return s.serve(stream, received, a, first)
}
