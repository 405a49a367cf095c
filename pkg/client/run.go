// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// Run is a gadget that runs on one node or on many. Next, Node, Nodes and Missed may
// be called by one goroutine, Stop by any.
type Run struct {
	conn  *Conn
	ctx   context.Context
	start *wire.Start
	// session names the run to the relay; empty for an agent's run.
	session string
	// last is the sequence of the last message that arrived.
	last   uint64
	missed Missed
	// broken is set from the end of a stream that the relay didn't want to end until
	// there is another.
	broken *outage
	// release ends the present stream.
	release context.CancelFunc
	// pending is what Next returns before it reads on.
	pending []*wire.RunResponse
	nodes   []*Node
	// tally is of the present session, past of those that the relay has forgotten.
	tally tally
	past  Counts
	// numbers are the nodes by the number that messages bear; an agent's is 0.
	numbers map[uint32]*Node

	// mu protects stream and stopped, which Stop uses.
	mu      sync.Mutex
	stream  grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse]
	stopped bool
	// stopping ends with Stop, so that nobody waits for a better connection.
	stopping context.Context
	stopNow  context.CancelFunc
}

// Missed is what got lost while a connection was broken.
type Missed struct {
	// Breaks counts the times that the connection broke, Restarts those after which
	// the relay had forgotten the session, so that nobody knows what is missing.
	Breaks, Restarts int
	// Messages and Records fell out of the relay's memory.
	Messages, Records uint64
}

// Run starts a gadget. On an agent it returns when the gadget is attached, on a
// relay when the session has begun: the nodes' headers come through Next. The run
// lasts until Stop, or until ctx ends, which loses what is under way.
func (c *Conn) Run(ctx context.Context, start *wire.Start) (*Run, error) {
	start.Protocol = wire.Current()
	r := &Run{conn: c, ctx: ctx, start: start, numbers: map[uint32]*Node{}}
	r.stopping, r.stopNow = context.WithCancel(ctx)
	ctx, r.release = context.WithCancel(ctx)
	if err := r.first(ctx); err != nil {
		r.release()
		r.stopNow()
		return nil, err
	}
	return r, nil
}

// first brings the run to its first message.
func (r *Run) first(ctx context.Context) error {
	first, err := r.open(ctx, &wire.RunRequest{Request: &wire.RunRequest_Start{Start: r.start}})
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the %s ended the run before it began", r.conn.peer())
	case err != nil:
		return r.conn.wrap("", err)
	case r.conn.relay != nil:
		return r.begin(first)
	}
	return r.beginAgent(first)
}

// open makes a stream, sends its first message and waits for the answer.
func (r *Run) open(ctx context.Context, request *wire.RunRequest) (*wire.RunResponse, error) {
	stream, err := r.conn.run(ctx)
	if err != nil {
		return nil, err
	}
	// io.EOF is only that the stream has ended; Recv says why.
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream = stream
	if r.stopped {
		r.sendStop()
	}
	return first, nil
}

func (c *Conn) run(ctx context.Context) (grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse], error) {
	if c.relay != nil {
		return c.relay.Run(ctx)
	}
	return c.agent.Run(ctx)
}

// beginAgent takes the header with which an agent's run begins.
func (r *Run) beginAgent(first *wire.RunResponse) error {
	header := first.GetHeader()
	if header == nil {
		return errors.New("the agent's first message is not a header")
	}
	if err := r.join(first); err != nil {
		return err
	}
	if r.start.GetSelector() != nil && header.GetProtocol().GetMinor() < 1 {
		return errors.New("the agent is too old to know containers: it can only trace the whole machine")
	}
	r.pending = append(r.pending, first)
	return nil
}

// begin takes the session with which a relay's run begins, or goes on.
func (r *Run) begin(first *wire.RunResponse) error {
	session := first.GetSession()
	if session == nil {
		return errors.New("the relay's first message is not a session")
	}
	if err := wire.CheckVersion(session.GetProtocol()); err != nil {
		return err
	}
	r.pending = append(r.pending, first)
	another := session.GetId() != r.session
	if another {
		r.restart(session.GetId())
	}
	r.last = max(r.last, first.GetSequence())
	for _, name := range session.GetNodes() {
		r.named(name)
	}
	// What was missed may have said which nodes are there. Which of them have something
	// of a trace session isn't known when reading it begins.
	reads := r.start.GetAttach() != nil && !r.start.GetAttach().GetOwner()
	if another && !reads || session.GetMissedMessages() > 0 {
		r.recall(session.GetNodes())
	}
	return nil
}

// restart forgets what belongs to the former session, but not what it counted.
func (r *Run) restart(session string) {
	if r.session != "" {
		r.missed.Restarts++
	}
	r.past, r.tally, r.last, r.session = r.Counts(), tally{}, 0, session
	for _, node := range r.nodes {
		node.past, node.now, node.Ended = Counts{}, Counts{}, false
	}
	clear(r.numbers)
}

// recall makes the nodes those that the relay says are there.
func (r *Run) recall(there []string) {
	for _, node := range r.nodes {
		switch {
		case slices.Contains(there, node.Name):
			node.Gone = ""
		case node.Live():
			node.leave("it wasn't there any more when the connection was", nil)
		}
	}
}

// Shown says that all records of a trace session have been shown that were made until a
// time. If the relay forgets the session, only what is newer is asked for. It must not
// be called while Next is.
func (r *Run) Shown(until time.Time) {
	if attach := r.start.GetAttach(); attach != nil {
		attach.Since, attach.Tail = max(attach.Since, until.UnixNano()), 0
	}
}

// Stop asks for the end, once. What was recorded until then still comes through Next.
func (r *Run) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.stopped = true
	r.stopNow()
	r.sendStop()
}

// sendStop asks for the end. If the stream is gone, Next says so.
func (r *Run) sendStop() {
	_ = r.stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}})
}

// Next returns the next message: a header, a batch that has passed its check, a
// loss, a notice, the end of a node, or what a newer peer has to say. It comes with
// the number of its node. After the end of all it returns io.EOF.
//
// When a relay's connection breaks, it returns a notice of that, and goes on with
// another connection when it is called again. So it does, with the credentials that
// there are then, when those that the run began with have run out.
func (r *Run) Next() (*wire.RunResponse, error) {
	for {
		if len(r.pending) > 0 {
			first := r.pending[0]
			r.pending = r.pending[1:]
			return first, nil
		}
		if r.broken != nil {
			if err := r.resume(); err != nil {
				return nil, err
			}
			continue
		}
		response, err := r.stream.Recv()
		if err != nil {
			return r.failed(err)
		}
		if number := response.GetSequence(); number != 0 {
			if number <= r.last {
				continue // It had arrived before the connection broke.
			}
			r.last = number
		}
		return r.account(response)
	}
}

// failed decides whether an error is the end, or only a broken connection or a token that
// has run out.
func (r *Run) failed(err error) (*wire.RunResponse, error) {
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	text, code := r.conn.wrap("", err), status.Code(err)
	void := code == codes.Unauthenticated
	if r.conn.relay == nil || code != codes.Unavailable && !void {
		return nil, text
	}
	r.broken = newOutage(text, r.conn.retry)
	if void {
		// Many tokens last for minutes, and each stream asks for the one that is valid now.
		return notice(fmt.Sprintf("%v; going on with those that there are now", text)), nil
	}
	r.missed.Breaks++
	return notice(fmt.Sprintf("connection lost: %v; connecting again", text)), nil
}

func notice(text string) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: &wire.Notice{Text: text}}}
}

// Node is the node of the number that a message bears, nil if it is about none.
func (r *Run) Node(number uint32) *Node { return r.numbers[number] }

// Nodes are all that take part, should do so, or did.
func (r *Run) Nodes() []*Node { return r.nodes }

// Missed says what got lost while connections were broken.
func (r *Run) Missed() Missed { return r.missed }

func (r *Run) named(name string) *Node {
	for _, node := range r.nodes {
		if node.Name == name {
			return node
		}
	}
	node := &Node{Name: name}
	r.nodes = append(r.nodes, node)
	return node
}

// Counts says what was received in all, and what was lost at which stage.
func (r *Run) Counts() Counts {
	var nodes Counts
	for _, node := range r.nodes {
		nodes = nodes.Add(node.Counts())
	}
	return r.past.Add(r.tally.counts(nodes, r.conn.relay != nil))
}

// Ended says whether the run came to its end in good order.
func (r *Run) Ended() bool { return r.tally.ended }

// Recalled says whether a message only repeats what was said while the connection
// was broken. Those have no numbers.
func (r *Run) Recalled(message *wire.RunResponse) bool {
	return r.conn.relay != nil && message.GetSequence() == 0
}

// join takes a header.
func (r *Run) join(message *wire.RunResponse) error {
	header := message.GetHeader()
	if err := wire.CheckVersion(header.GetProtocol()); err != nil {
		return err
	}
	spec, err := header.GetGadget().Spec()
	if err != nil {
		return err
	}
	node := r.named(header.GetNode().GetName())
	r.numbers[message.GetNode()] = node
	if r.Recalled(message) && node.Header != nil {
		// Whether the node is there, the session has said.
		node.Header, node.Spec = header, *spec
		return nil
	}
	node.begin(header, *spec)
	return nil
}

// account keeps the books of the run, and of the node that the message is about.
func (r *Run) account(message *wire.RunResponse) (*wire.RunResponse, error) {
	node := r.numbers[message.GetNode()]
	switch m := message.GetResponse().(type) {
	case *wire.RunResponse_Header:
		if err := r.join(message); err != nil {
			return r.blame(message, m.Header.GetNode().GetName(), err)
		}
	case *wire.RunResponse_Gone:
		node = r.named(m.Gone.GetNode())
		node.leave(m.Gone.GetReason(), m.Gone.GetLoss())
		r.numbers[message.GetNode()] = node
	case *wire.RunResponse_Batch:
		// A relay's has the records of many nodes; it answers for the whole.
		if err := m.Batch.Check(); err != nil {
			return nil, err
		}
		r.tally.batch(m.Batch)
	case *wire.RunResponse_Loss:
		if node != nil {
			node.now.grow(countsOf(m.Loss))
		} else {
			r.tally.loss.grow(countsOf(m.Loss))
		}
	case *wire.RunResponse_End:
		if node != nil {
			node.end(m.End.GetLoss())
		}
		if node == nil || r.conn.relay == nil {
			r.tally.end(m.End)
		}
	}
	return message, nil
}

// blame makes an error of a header that can't be used. Among many nodes it is the
// one node's end, not that of the run.
func (r *Run) blame(message *wire.RunResponse, name string, err error) (*wire.RunResponse, error) {
	if r.conn.relay == nil {
		return nil, err
	}
	node := r.named(name)
	node.leave(err.Error(), nil)
	delete(r.numbers, message.GetNode())
	return &wire.RunResponse{
		Response: &wire.RunResponse_Gone{Gone: &wire.Gone{Node: name, Reason: err.Error()}}, Sequence: message.GetSequence(),
	}, nil
}
