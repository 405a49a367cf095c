// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/client-go/rest"

	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/session/watch"
	"nodegadget.dev/pkg/wire"
)

// fleet is agents that are made up, where relay.Fleet has real ones.
type fleet struct {
	mu      sync.Mutex
	agents  map[string]*agent
	changed chan struct{}
}

func newFleet() *fleet { return &fleet{agents: map[string]*agent{}, changed: make(chan struct{})} }

// set makes an agent the node's; nil takes it away.
func (f *fleet) set(node string, a *agent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a == nil {
		delete(f.agents, node)
	} else {
		f.agents[node] = a
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// each is as relay.Fleet.Each.
func (f *fleet) each(ctx context.Context, run func(context.Context, string, wire.AgentClient)) {
	var runs sync.WaitGroup
	defer runs.Wait()
	ends := map[*agent]context.CancelFunc{}
	for {
		f.mu.Lock()
		there := map[*agent]bool{}
		for node, a := range f.agents {
			there[a] = true
			if ends[a] == nil {
				var while context.Context
				while, ends[a] = context.WithCancel(ctx)
				runs.Go(func() { run(while, node, a) })
			}
		}
		changed := f.changed
		f.mu.Unlock()
		for a, end := range ends {
			if !there[a] {
				end()
				delete(ends, a)
			}
		}
		select {
		case <-ctx.Done():
			for _, end := range ends {
				end()
			}
			return
		case <-changed:
		}
	}
}

// agent runs sessions as a real one does, but for running anything: each of its sessions
// makes 10 records a report.
type agent struct {
	wire.AgentClient
	node string
	// pace is that of reports.
	pace time.Duration

	mu       sync.Mutex
	sessions []session.Session
	states   map[string]*wire.SessionState
	gone     []string
	// dead agents don't answer; stuck ones don't notice anything.
	dead, stuck bool
	// fails are the names of sessions that can't run here.
	fails map[string]string
	// readers of all sessions.
	readers uint32
	// died ends streams.
	died chan struct{}
}

func newAgent(node string) *agent {
	return &agent{node: node, pace: 100 * time.Millisecond, states: map[string]*wire.SessionState{}, fails: map[string]string{}, died: make(chan struct{})}
}

// follow has the agent learn of sessions from the API server until ctx ends.
func (a *agent) follow(ctx context.Context, config *rest.Config) error {
	return watch.Run(ctx, watch.Options{Config: config, Node: a.node, Set: a.set, MaxBackoff: time.Second})
}

func (a *agent) set(sessions []session.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions = sessions
}

// with changes the agent.
func (a *agent) with(change func(*agent)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

// kill ends the agent: its counters are lost, and its streams break.
func (a *agent) kill() {
	a.with(func(a *agent) {
		a.dead = true
		a.states = map[string]*wire.SessionState{}
		close(a.died)
		a.died = make(chan struct{})
	})
}

func (a *agent) revive() { a.with(func(a *agent) { a.dead = false }) }

// look brings what the agent runs in line with what is wanted. The caller holds mu.
func (a *agent) look(now time.Time) {
	if a.stuck {
		return
	}
	wanted := map[string]bool{}
	for i := range a.sessions {
		s := &a.sessions[i]
		wanted[string(s.UID)] = true
		a.run(s, now)
	}
	for uid := range a.states {
		if !wanted[uid] {
			delete(a.states, uid)
			a.gone = append(a.gone, uid)
		}
	}
}

func (a *agent) run(s *session.Session, now time.Time) {
	state := a.states[string(s.UID)]
	if state == nil {
		state = &wire.SessionState{Uid: string(s.UID), Namespace: s.Namespace, Name: s.Name, Loss: &wire.Loss{}}
		a.states[string(s.UID)] = state
	}
	state.Generation, state.Readers, state.Reason, state.Message = s.Generation, a.readers, "", ""
	switch why := a.fails[s.Name]; {
	case s.Deleting || s.Spec.Suspend || s.Expired(now):
		state.Phase = wire.SessionState_STOPPED
	case why != "":
		state.Phase, state.Reason, state.Message = wire.SessionState_FAILED, "LoadFailed", why
	case state.GetPhase() != wire.SessionState_RUNNING:
		state.Phase, state.Began, state.Records, state.Loss = wire.SessionState_RUNNING, now.UnixNano(), 0, &wire.Loss{}
	default:
		state.Records += 10
		state.Loss.Queue++
	}
}

// Sessions is part of wire.AgentClient.
func (a *agent) Sessions(ctx context.Context, _ *wire.SessionsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[wire.SessionsReport], error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead {
		return nil, status.Error(codes.Unavailable, "connection refused")
	}
	return &reports{ctx: ctx, agent: a, died: a.died, last: map[string]*wire.SessionState{}}, nil
}

// reports is a stream of them.
type reports struct {
	grpc.ClientStream
	ctx   context.Context
	agent *agent
	died  chan struct{}
	begun bool
	last  map[string]*wire.SessionState
}

// Recv is part of grpc.ServerStreamingClient.
func (r *reports) Recv() (*wire.SessionsReport, error) {
	for {
		if r.begun {
			select {
			case <-r.ctx.Done():
				return nil, status.FromContextError(r.ctx.Err()).Err()
			case <-r.died:
				return nil, io.EOF
			case <-time.After(r.agent.pace):
			}
		}
		if report := r.next(); report != nil {
			return report, nil
		}
	}
}

// next is what is new; nil if nothing is.
func (r *reports) next() *wire.SessionsReport {
	a := r.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look(time.Now())
	report := &wire.SessionsReport{}
	for uid, state := range a.states {
		if !proto.Equal(state, r.last[uid]) {
			r.last[uid] = proto.CloneOf(state)
			report.Sessions = append(report.Sessions, r.last[uid])
		}
	}
	for uid := range r.last {
		if a.states[uid] == nil && slices.Contains(a.gone, uid) {
			delete(r.last, uid)
			report.Gone = append(report.Gone, uid)
		}
	}
	first := !r.begun
	r.begun = true
	if first || len(report.Sessions)+len(report.Gone) > 0 {
		return report
	}
	return nil
}
