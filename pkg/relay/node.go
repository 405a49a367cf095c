// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

const (
	// headerTimeout is how long an agent may take to load a gadget.
	headerTimeout = time.Minute
	// stopTimeout is how long it may say nothing when it should end one, stopLimit how
	// long it may take.
	stopTimeout = 10 * time.Second
	stopLimit   = time.Minute
	// An agent that went away is tried again after firstRetry, then later and later; one
	// that refused, which its restart may have changed, after lastRetry.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// state is how far a node's run is.
type state uint8

const (
	// absent: its agent can't be reached, or doesn't keep what it began.
	absent state = iota
	starting
	running
	// refused: the agent won't run this, whenever it is asked.
	refused
	// ended: the gadget has ended by itself, or was stopped.
	ended
	// lacking: the agent has nothing of the trace session, but may come to.
	lacking
)

// node is a session's run on one node, through all restarts of its agent.
type node struct {
	name    string
	number  uint32
	session *session
	refs    *refs
	// heard counts messages.
	heard atomic.Uint64
	// told is why the node is gone, as the client knows it.
	told string
	// seen is the time of the last record of a trace session, share its room while what
	// was retained is on its way.
	seen  int64
	share *share

	// The rest is guarded by the session's mu.
	state  state
	header *wire.Header
	// why is what the agent refused.
	why error
	// records and loss are those of all runs that are over, the others this one's.
	records, runRecords uint64
	// received counts those of a trace session in this run.
	received uint64
	loss     wire.Loss
	runLoss  *wire.Loss
}

// run runs the gadget on the node until the session ends it or it ends by itself.
func (n *node) run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil && !n.session.stopped() {
		m, _ := n.session.relay.opts.Fleet.get(n.name)
		if problem := unreachable(m); problem != "" {
			n.gone(ctx, absent, errors.New(problem))
			n.awaitOther(ctx, m, 0)
			continue
		}
		began := time.Now()
		end, err := n.attempt(ctx, m)
		if err == nil {
			n.leave(ctx, ended, nil, end)
			return
		}
		if while := n.again(m, err); while > 0 {
			n.awaitOther(ctx, m, while)
			continue
		}
		to := n.fail(ctx, m, err)
		if to == lacking && !n.session.follows() {
			return
		}
		if time.Since(began) > lastRetry {
			retry = firstRetry
		}
		if to == refused {
			retry = lastRetry
		}
		n.awaitOther(ctx, m, retry/2+rand.N(retry))
		retry = min(2*retry, lastRetry)
	}
}

// fail ends an attempt that came to nothing, and returns what the node is then.
func (n *node) fail(ctx context.Context, m *member, err error) state {
	if errors.Is(err, errLacks) && n.session.replays() {
		n.leave(ctx, lacking, nil, nil)
		return lacking
	}
	if now, _ := n.session.relay.opts.Fleet.get(n.name); now != m {
		err = errors.New("its agent is gone")
	}
	to := stateAfter(err)
	n.gone(ctx, to, err)
	return to
}

func unreachable(m *member) string {
	switch {
	case m == nil:
		return "there is no agent on this node"
	case m.client == nil:
		return m.Problem
	}
	return ""
}

// stateAfter tells what may pass from what will not: an agent that doesn't know the
// gadget or its parameters.
func stateAfter(err error) state {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.Unimplemented, codes.PermissionDenied:
		return refused
	}
	return absent
}

// reason is an error without gRPC's words.
func reason(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// awaitOther waits until the node's agent is another one, until the session ends, or
// for a while if that isn't 0.
func (n *node) awaitOther(ctx context.Context, than *member, while time.Duration) {
	var timeout <-chan time.Time
	if while > 0 {
		timer := time.NewTimer(while)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		now, changed := n.session.relay.opts.Fleet.get(n.name)
		if now != than {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-n.session.stopping:
			return
		case <-timeout:
			return
		case <-changed:
		}
	}
}

// attempt runs the gadget once. Without an error it returns the agent's end.
func (n *node) attempt(ctx context.Context, m *member) (*wire.RunResponse, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n.setState(starting)
	if err := n.pass(ctx, parcel{alive: true}); err != nil {
		return nil, err
	}
	stream, err := m.client.Run(ctx)
	if err != nil {
		return nil, err
	}
	// io.EOF is only that the stream has ended; Recv says why.
	if err := stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: n.startOf()}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	late := n.await(cancel)
	defer late.Stop()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		n.passStop(ctx, stream, cancel)
	}()
	end, err := n.receive(ctx, stream, late)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	cancel(nil)
	<-stopped
	return end, n.excuse(err)
}

// await gives up an agent that doesn't begin.
func (n *node) await(cancel context.CancelCauseFunc) *time.Timer {
	if n.session.replays() {
		return time.AfterFunc(attachTimeout, func() { cancel(fmt.Errorf("its agent hasn't answered within %s", attachTimeout)) })
	}
	return time.AfterFunc(headerTimeout, func() { cancel(fmt.Errorf("its agent hasn't started the gadget within %s", headerTimeout)) })
}

// passStop asks the agent for the end when the client has.
func (n *node) passStop(ctx context.Context, stream grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse], cancel context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
		return
	case <-n.session.stopping:
	}
	// If the stream is gone, receive says so.
	_ = stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}})
	limit, ticker := time.Now().Add(stopLimit), time.NewTicker(stopTimeout)
	defer ticker.Stop()
	for before := n.heard.Load(); ; before = n.heard.Load() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n.heard.Load() == before || time.Now().After(limit) {
			cancel(errors.New("its agent doesn't end the gadget"))
			return
		}
	}
}

func (n *node) pass(ctx context.Context, p parcel) error {
	p.lane = int(n.number - 1)
	p.arrived = n.session.merger.now()
	p.size, p.share = int64(len(p.records)), n.share
	if p.message != nil {
		p.size = int64(sizeOf(p.message))
	}
	return n.session.merger.push(ctx, p)
}

// gone ends a run of the agent's that went wrong, and tells the client why, once.
func (n *node) gone(ctx context.Context, to state, why error) {
	n.session.mu.Lock()
	message := &wire.RunResponse{Node: n.number, Response: &wire.RunResponse_Gone{
		Gone: &wire.Gone{Node: n.name, Reason: reason(why), Loss: n.runLoss},
	}}
	n.session.mu.Unlock()
	if n.told == message.GetGone().GetReason() {
		message = nil
	}
	n.told = reason(why)
	n.leave(ctx, to, why, message)
}

// leave ends a run of the agent's: what it counted is added up, and the merger doesn't
// wait for the node any more.
func (n *node) leave(ctx context.Context, to state, why error, message *wire.RunResponse) {
	// The context has ended only if nobody is interested any more.
	_ = n.pass(ctx, parcel{dead: true, message: message})
	n.session.mu.Lock()
	n.records += n.runRecords
	n.loss.Add(n.runLoss)
	n.runRecords, n.received, n.runLoss, n.state, n.why = 0, 0, nil, to, why
	n.session.mu.Unlock()
	n.session.poke()
}

func (n *node) setState(to state) {
	n.session.mu.Lock()
	n.state = to
	n.session.mu.Unlock()
	n.session.poke()
}
