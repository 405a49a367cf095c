// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/version"
	"nodegadget.dev/pkg/wire"
)

// lossInterval is how often the relay's own losses are told; the protocol promises
// two seconds.
const lossInterval = time.Second

// session is a client's run on all nodes that it wants. It outlives the client's
// stream for a while.
type session struct {
	id     string
	relay  *Relay
	caller access.Caller
	start  *wire.Start
	box    *box
	merger *merger
	// refs numbers the references of all nodes.
	refs atomic.Uint32
	// replayed is the number of the message that says that all nodes have sent what they
	// had retained; 0 before.
	replayed atomic.Uint64
	began    time.Time
	// ctx ends with the session, and with it all runs on nodes.
	ctx  context.Context
	kill context.CancelFunc
	// stopping is closed when the client wants the end, or has been given up.
	stopping chan struct{}
	stopOnce sync.Once
	// news has something in it when a node's state has changed.
	news    chan struct{}
	running sync.WaitGroup
	// cutOff is the stream that is being given up, and away when the API server could not
	// be reached last; watch alone uses them.
	cutOff *attachment
	away   time.Time
	// dropped is closed when the session is over and not even kept any more.
	dropped chan struct{}

	mu    sync.Mutex
	nodes []*node
	// known are the names of nodes.
	known map[string]bool
	// attached is the client's stream; without one the session lingers since left.
	attached *attachment
	left     time.Time
}

func (r *Relay) newSession(caller access.Caller, start *wire.Start) *session {
	id := make([]byte, 16)
	// It never fails.
	_, _ = rand.Read(id)
	s := &session{
		id: hex.EncodeToString(id), relay: r, caller: caller, start: start, box: newBox(r.opts.Memory), began: time.Now(),
		stopping: make(chan struct{}), news: make(chan struct{}, 1), dropped: make(chan struct{}), left: time.Now(), known: map[string]bool{},
	}
	s.ctx, s.kill = context.WithCancel(context.Background())
	s.merger = newMerger(r.opts.Window, r.opts.MergeMemory, s.out, s.box.full)
	return s
}

// begin names the nodes that are there, and those that should be. Which of them have
// something of a trace session is not known yet.
func (s *session) begin(present []*member) {
	names := make([]string, 0, len(present))
	for _, m := range present {
		names = append(names, m.Node)
	}
	if s.replays() {
		s.box.add(s.message(nil))
	} else {
		s.box.add(s.message(names))
	}
	missing := slices.DeleteFunc(slices.Clone(s.start.GetNodes()), func(name string) bool { return slices.Contains(names, name) })
	s.addNodes(append(names, missing...))
}

func (s *session) message(nodes []string) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Session{Session: &wire.Session{
		Id: s.id, Protocol: wire.Current(), RelayVersion: version.Version, Nodes: nodes,
	}}}
}

// addNodes begins to run the gadget on nodes, unless it does already. All of them are
// known to the merger before the first one begins.
func (s *session) addNodes(names []string) {
	var added []*node
	for _, name := range names {
		if n := s.addNode(name); n != nil {
			added = append(added, n)
		}
	}
	for _, n := range added {
		if s.replays() {
			n.share = s.merger.newShare(len(added))
		}
		s.running.Go(func() { n.run(s.ctx) })
	}
}

// addNode makes a node, nil if it is there already.
func (s *session) addNode(name string) *node {
	s.mu.Lock()
	if s.known[name] {
		s.mu.Unlock()
		return nil
	}
	s.known[name] = true
	n := &node{name: name, number: uint32(len(s.nodes) + 1), session: s, state: starting}
	n.refs = newRefs(n.number, &s.refs)
	s.nodes = append(s.nodes, n)
	s.mu.Unlock()
	// Others' records wait for this node's from now on. It fails only when all is over.
	_ = n.pass(s.ctx, parcel{alive: true, replaying: s.replays()})
	return n
}

// run looks after the session until it is over: it includes nodes that join, tells
// losses, and ends it when all nodes have ended, or when the client has left it.
func (s *session) run() {
	merging, stopMerging := context.WithCancel(context.Background())
	merged := make(chan struct{})
	go func() {
		defer close(merged)
		s.merger.run(merging)
	}()
	err := s.watch()
	s.kill()
	s.running.Wait()
	stopMerging()
	s.drain(merged, err)
	if err == nil {
		s.box.add(&wire.RunResponse{Response: &wire.RunResponse_End{End: s.total()}})
	}
	s.box.close(err)
	s.linger()
}

// drain waits until the client has been sent what came before the end, if it reads.
func (s *session) drain(merged <-chan struct{}, err error) {
	if err != nil {
		s.box.end()
	}
	ticker := time.NewTicker(lossInterval)
	defer ticker.Stop()
	for {
		select {
		case <-merged:
			return
		case <-s.relay.closing:
			s.box.end()
			<-merged
			return
		case <-ticker.C:
			s.hurry()
		}
	}
}

// hurry gives up keeping everything for a client that doesn't read, when the session
// ends: nodes can come to their end only if what they sent before finds a place.
func (s *session) hurry() {
	s.mu.Lock()
	attached := s.attached
	s.mu.Unlock()
	if attached == nil || attached.stalled() > lossInterval {
		s.box.end()
	}
}

// watch returns when the session has to end: with nil in good order.
func (s *session) watch() error {
	ticker := time.NewTicker(lossInterval)
	defer ticker.Stop()
	told, changed := uint64(0), s.include()
	for {
		select {
		case <-changed:
			changed = s.include()
		case <-s.relay.closing:
			return status.Error(codes.Unavailable, "the relay is shutting down")
		case <-s.news:
			over, err := s.over()
			if over && s.cutOff != nil {
				return s.cut()
			}
			if over {
				return err
			}
		case <-ticker.C:
			if err := s.check(); err != nil {
				return err
			}
			told = s.tellLoss(told)
		}
	}
}

// include begins to run the gadget on nodes that have joined. It returns what is closed
// when others may have.
func (s *session) include() <-chan struct{} {
	members, changed := s.relay.opts.Fleet.all(s.start.GetNodes())
	names := make([]string, 0, len(members))
	for _, m := range members {
		names = append(names, m.Node)
	}
	s.addNodes(names)
	return changed
}

// over says whether nothing comes any more: all nodes have ended, or some have and
// the others aren't there. If all refuse, their reason is the session's error. A trace
// session that isn't followed is not waited for.
func (s *session) over() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends, refusals := 0, 0
	var why error
	for _, n := range s.nodes {
		switch n.state {
		case starting, running:
			return false, nil
		case ended:
			ends++
		case refused:
			refusals++
			why = n.why
		}
	}
	began := slices.ContainsFunc(s.nodes, func(n *node) bool { return n.header != nil })
	switch {
	case ends > 0 || s.stopped():
		return true, nil
	case refusals == len(s.nodes) && !began:
		return true, why
	}
	return s.replays() && !s.follows(), nil
}

// check gives up a client that doesn't read, and one that doesn't come back.
func (s *session) check() error {
	s.mu.Lock()
	attached, left := s.attached, s.left
	s.mu.Unlock()
	if s.box.finished() {
		return s.box.err
	}
	stalled := time.Duration(0)
	switch {
	case attached != nil:
		stalled = attached.stalled()
	case s.orphaned(left):
		return status.Error(codes.Aborted, "nobody came back for the session")
	}
	if s.stopped() {
		s.hurry()
	}
	if stalled > s.relay.opts.Stall && s.cutOff == nil {
		// When the nodes have ended, it is known what was dropped.
		s.cutOff = attached
		s.stop()
	}
	return nil
}

// cut ends the stream of a client that doesn't read.
func (s *session) cut() error {
	s.relay.cutOff.Add(1)
	end := s.total()
	err := status.Errorf(codes.ResourceExhausted, "the client has read nothing for %s and is cut off; %d of %d records were dropped because of it",
		s.relay.opts.Stall, end.GetLoss().GetQueue()+end.GetLoss().GetRelay(), end.GetRecords())
	s.cutOff.cancel(err)
	return err
}

// tellLoss tells what the relay had no room for, if it has become more.
func (s *session) tellLoss(told uint64) uint64 {
	_, lost := s.box.counts()
	if lost != told {
		s.box.add(&wire.RunResponse{Response: &wire.RunResponse_Loss{Loss: &wire.Loss{Relay: lost}}})
	}
	return lost
}

// total is what all nodes have counted, and the relay.
func (s *session) total() *wire.End {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := &wire.End{Loss: &wire.Loss{}}
	for _, n := range s.nodes {
		end.Records += n.records
		end.Loss.Add(&n.loss)
	}
	_, end.Loss.Relay = s.box.counts()
	return end
}

// stop asks all nodes for the end.
func (s *session) stop() {
	s.stopOnce.Do(func() { close(s.stopping) })
	s.poke()
}

func (s *session) stopped() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// poke lets the session look at its nodes.
func (s *session) poke() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// recall is what a client has to know that has missed messages up to a number: the
// headers of all nodes that take part, what references mean, and if the replay is over.
func (s *session) recall(upTo uint64) []*wire.RunResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	var messages []*wire.RunResponse
	for _, n := range s.nodes {
		if n.header == nil {
			continue
		}
		messages = append(messages, &wire.RunResponse{Node: n.number, Response: &wire.RunResponse_Header{Header: n.header}})
		for part := range slices.Chunk(n.refs.explained(), batchRecords) {
			messages = append(messages, &wire.RunResponse{Node: n.number, Response: &wire.RunResponse_Containers{
				Containers: &wire.Containers{Containers: part},
			}})
		}
	}
	if at := s.replayed.Load(); at != 0 && at <= upTo {
		messages = append(messages, replayedMessage())
	}
	return messages
}

func (s *session) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, n := range s.nodes {
		if n.state == running || n.state == starting && !s.replays() {
			names = append(names, n.name)
		}
	}
	return names
}

// String names the session in logs.
func (s *session) String() string { return fmt.Sprintf("%.8s", s.id) }
