// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

const (
	// headerTimeout is how long an agent may take to load a gadget.
	headerTimeout = time.Minute
	// stopTimeout is how long it may say nothing when it should end one, stopLimit how
	// long it may take.
	stopTimeout = 10 * time.Second
	stopLimit   = time.Minute
	firstRetry  = time.Second
	lastRetry   = 30 * time.Second
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
)

// node is a session's run on one node, through all restarts of its agent.
type node struct {
	name    string
	number  uint32
	session *session
	refs    *refs
	// heard counts messages.
	heard atomic.Uint64

	// The rest is guarded by the session's mu.
	state  state
	header *wire.Header
	// why is what the agent refused.
	why error
	// records and loss are those of all runs that are over, the others this one's.
	records, runRecords uint64
	loss                wire.Loss
	runLoss             *wire.Loss
}

// run runs the gadget on the node until the session ends it or it ends by itself.
func (n *node) run(ctx context.Context) {
	fleet, retry := n.session.relay.opts.Fleet, firstRetry
	missed := ""
	for ctx.Err() == nil && !n.session.stopped() {
		m, _ := fleet.get(n.name)
		if problem := unreachable(m); problem != "" {
			if problem != missed {
				n.leave(ctx, absent, nil, n.gone(problem))
			}
			missed = problem
			n.awaitOther(ctx, m, 0)
			continue
		}
		missed = ""
		began := time.Now()
		end, err := n.attempt(ctx, m)
		if err == nil {
			n.leave(ctx, ended, nil, end)
			return
		}
		if now, _ := fleet.get(n.name); now != m {
			err = errors.New("its agent is gone")
		}
		to := stateAfter(err)
		n.leave(ctx, to, err, n.gone(reason(err)))
		if to == refused {
			n.awaitOther(ctx, m, 0)
			continue
		}
		if time.Since(began) > lastRetry {
			retry = firstRetry
		}
		n.awaitOther(ctx, m, retry/2+rand.N(retry))
		retry = min(2*retry, lastRetry)
	}
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
// gadget or its parameters is not asked again until it is replaced.
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
	start := proto.CloneOf(n.session.start)
	start.Protocol, start.Nodes = wire.Current(), nil
	// io.EOF is only that the stream has ended; Recv says why.
	if err := stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	late := time.AfterFunc(headerTimeout, func() { cancel(fmt.Errorf("its agent hasn't started the gadget within %s", headerTimeout)) })
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
	return end, err
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

// receive reads the stream to its end, which it returns.
func (n *node) receive(ctx context.Context, stream grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse], late *time.Timer) (*wire.RunResponse, error) {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("its agent has ended the run before it began")
	}
	if err != nil {
		return nil, err
	}
	late.Stop()
	clock, err := n.begin(ctx, first.GetHeader())
	if err != nil {
		return nil, err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("its agent has ended the run without saying so")
		}
		if err != nil {
			return nil, err
		}
		n.heard.Add(1)
		message.Node = n.number
		if end := message.GetEnd(); end != nil {
			n.counted(end.GetRecords(), end.GetLoss())
			return message, nil
		}
		if err = n.handle(ctx, clock, message); err != nil {
			return nil, err
		}
	}
}

// begin checks the header and passes it on.
func (n *node) begin(ctx context.Context, header *wire.Header) (*clock, error) {
	if header == nil {
		return nil, errors.New("its agent's first message is not a header")
	}
	if err := wire.CheckVersion(header.GetProtocol()); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	if n.session.start.GetSelector() != nil && header.GetProtocol().GetMinor() < 1 {
		// It has ignored the selector, and would send what the client may not see.
		return nil, status.Error(codes.FailedPrecondition, "its agent is too old to select containers: update it")
	}
	if header.Node == nil {
		header.Node = &wire.Node{}
	}
	// Its certificate says who it is.
	header.Node.Name = n.name
	n.refs.reset()
	n.session.mu.Lock()
	n.state, n.header = running, header
	n.session.mu.Unlock()
	n.session.poke()
	return clockOf(header), n.pass(ctx, parcel{message: &wire.RunResponse{
		Node: n.number, Response: &wire.RunResponse_Header{Header: header},
	}})
}

// clockOf is nil if records can't be put in order with those of other nodes.
func clockOf(header *wire.Header) *clock {
	source := header.GetGadget().GetSource()
	if gadget.SourceKind(source.GetKind()) != gadget.Events {
		return nil
	}
	for _, f := range source.GetFields() {
		if gadget.Semantic(f.GetSemantic()) == gadget.Timestamp && f.GetSize() == 8 && f.GetOffset() <= gadget.MaxRecordSize {
			return &clock{offset: int(f.GetOffset()), boot: header.GetBootTime()}
		}
	}
	return nil
}

// handle takes one message of the agent's.
func (n *node) handle(ctx context.Context, clock *clock, message *wire.RunResponse) error {
	switch r := message.GetResponse().(type) {
	case *wire.RunResponse_Batch:
		return n.batch(ctx, clock, message, r.Batch)
	case *wire.RunResponse_Containers:
		n.refs.explain(r.Containers.GetContainers())
		return n.explain(ctx)
	case *wire.RunResponse_Loss:
		n.counted(0, r.Loss)
		return n.pass(ctx, parcel{message: message})
	case *wire.RunResponse_Notice:
		return n.pass(ctx, parcel{message: message})
	}
	// What this relay doesn't know it could not put right for the client.
	return nil
}

func (n *node) batch(ctx context.Context, clock *clock, message *wire.RunResponse, b *wire.Batch) error {
	if err := n.remap(b); err != nil {
		return err
	}
	n.counted(b.GetSequence()+uint64(b.GetCount()), nil)
	n.session.relay.records.Add(uint64(b.GetCount()))
	if err := n.explain(ctx); err != nil {
		return err
	}
	if clock == nil {
		return n.pass(ctx, parcel{message: message})
	}
	return n.pass(ctx, parcel{clock: clock, records: b.GetRecords(), targets: b.GetTargets()})
}

// counted takes what the agent says it has counted in this run.
func (n *node) counted(records uint64, loss *wire.Loss) {
	n.session.mu.Lock()
	defer n.session.mu.Unlock()
	n.runRecords = max(n.runRecords, records)
	if loss != nil {
		n.runLoss = loss
	}
}

// remap puts the session's references in the place of the agent's, and checks the
// batch on the way.
func (n *node) remap(b *wire.Batch) error {
	rest, count := b.GetRecords(), uint32(0)
	for len(rest) >= frame {
		length := uint64(binary.LittleEndian.Uint32(rest))
		if length > uint64(len(rest)-frame) {
			return wire.ErrFraming
		}
		binary.LittleEndian.PutUint32(rest[4:], n.refs.relay(binary.LittleEndian.Uint32(rest[4:])))
		rest = rest[frame+length:]
		count++
	}
	if len(rest) != 0 || count != b.GetCount() || len(b.GetTargets()) != 0 && len(b.GetTargets()) != int(count) {
		return wire.ErrFraming
	}
	for i, target := range b.GetTargets() {
		b.Targets[i] = n.refs.relay(target)
	}
	return nil
}

// explain passes on what references mean, before records that use them.
func (n *node) explain(ctx context.Context) error {
	if message := n.refs.take(); message != nil {
		return n.pass(ctx, parcel{message: message})
	}
	return nil
}

func (n *node) pass(ctx context.Context, p parcel) error {
	p.lane = int(n.number - 1)
	p.arrived = n.session.merger.now()
	p.size = int64(len(p.records))
	if p.message != nil {
		p.size = int64(sizeOf(p.message))
	}
	return n.session.merger.push(ctx, p)
}

// gone tells the client that the node isn't there.
func (n *node) gone(why string) *wire.RunResponse {
	n.session.mu.Lock()
	defer n.session.mu.Unlock()
	return &wire.RunResponse{Node: n.number, Response: &wire.RunResponse_Gone{
		Gone: &wire.Gone{Node: n.name, Reason: why, Loss: n.runLoss},
	}}
}

// leave ends a run of the agent's: what it counted is added up, and the merger doesn't
// wait for the node any more.
func (n *node) leave(ctx context.Context, to state, why error, message *wire.RunResponse) {
	// The context has ended only if nobody is interested any more.
	_ = n.pass(ctx, parcel{dead: true, message: message})
	n.session.mu.Lock()
	n.records += n.runRecords
	add(&n.loss, n.runLoss)
	n.runRecords, n.runLoss, n.state, n.why = 0, nil, to, why
	n.session.mu.Unlock()
	n.session.poke()
}

func (n *node) setState(to state) {
	n.session.mu.Lock()
	n.state = to
	n.session.mu.Unlock()
	n.session.poke()
}

// add adds a loss to a sum.
func add(sum, l *wire.Loss) {
	sum.Kernel += l.GetKernel()
	sum.Queue += l.GetQueue()
	sum.Skipped += l.GetSkipped()
	sum.Relay += l.GetRelay()
	sum.Unresolved += l.GetUnresolved()
	sum.Withheld += l.GetWithheld()
}
