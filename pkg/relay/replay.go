// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/validation"

	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/wire"
)

const (
	// replayPatience is how long others wait for a node that hasn't sent all that it has
	// retained, and sends nothing.
	replayPatience = 5 * time.Second
	// attachTimeout is how long an agent may take to find a trace session: it has
	// nothing to load.
	attachTimeout = 10 * time.Second
	// attachRetry is how soon an agent is asked again that can't be reached at first: a
	// relay that has just started isn't connected yet.
	attachRetry = 250 * time.Millisecond
	// minShare is the least that a node may have waiting while records are replayed; a
	// batch fits into it.
	minShare = 32 << 10
)

var (
	// errLacks says that a node has nothing of the trace session.
	errLacks = errors.New("its agent has nothing of the trace session")
	// errTooOld is also what is said to agents that would run something instead.
	errTooOld = status.Error(codes.FailedPrecondition, "its agent is too old for trace sessions: update it")
)

// may says whether the caller may see what the start asks for.
func (r *Relay) may(ctx context.Context, caller access.Caller, start *wire.Start) error {
	attach := start.GetAttach()
	if attach == nil {
		return r.opts.Gate.Trace(ctx, caller, start.GetSelector())
	}
	if problems := validation.IsDNS1123Subdomain(attach.GetName()); len(problems) > 0 {
		return status.Errorf(codes.InvalidArgument, "%.300q is no name of a trace session: %s", attach.GetName(), strings.Join(problems, "; "))
	}
	if attach.GetSince() < 0 {
		return status.Error(codes.InvalidArgument, "records from before 1970 are asked for")
	}
	return r.opts.Gate.Session(ctx, caller, attach.GetNamespace())
}

// attaches says whether the session shows a trace session, not a run of its own.
func (s *session) attaches() bool { return s.start.GetAttach() != nil }

// replays says whether it shows what a trace session has recorded before. One that
// belongs to the client is shown as a run is: it begins with the client.
func (s *session) replays() bool { return s.attaches() && !s.start.GetAttach().GetOwner() }

// follows says whether it shows what is being recorded, too.
func (s *session) follows() bool { return s.start.GetAttach().GetFollow() }

// out hands a merged message to the client, and remembers where the replay ended.
func (s *session) out(message *wire.RunResponse) {
	s.box.add(message)
	if message.GetReplayed() != nil {
		s.replayed.Store(message.GetSequence())
	}
}

func replayedMessage() *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Replayed{Replayed: &wire.Replayed{}}}
}

// startOf is what the node's agent is asked for: of a trace session, after a first
// time, only for what is new. All else is left out then, so that an agent which is too
// old to know trace sessions finds no gadget that it could run.
func (n *node) startOf() *wire.Start {
	start := proto.CloneOf(n.session.start)
	attach := start.GetAttach()
	if attach == nil {
		start.Protocol, start.Nodes = wire.Current(), nil
		return start
	}
	if n.seen > attach.GetSince() {
		attach.Since, attach.Tail = n.seen, 0
	}
	return &wire.Start{Protocol: wire.Current(), Attach: attach}
}

// see remembers the time of the last record of the batch.
func (n *node) see(clock *clock, b *wire.Batch) {
	arrived := n.session.merger.now()
	for _, record := range b.All() {
		n.seen = max(n.seen, clock.at(record, arrived))
	}
}

// receivedBatch counts the records of a trace session: the numbers that they have there
// don't begin with those that were asked for.
func (n *node) receivedBatch(b *wire.Batch) {
	n.session.mu.Lock()
	defer n.session.mu.Unlock()
	n.received += uint64(b.GetCount())
	n.runRecords = n.received + n.runLoss.GetQueue()
}

// excuse is why an attempt to read a trace session ended, in words for its reader.
func (n *node) excuse(err error) error {
	// Agents that know trace sessions say otherwise that they don't have one.
	if n.session.attaches() && status.Code(err) == codes.NotFound {
		return errTooOld
	}
	return err
}

// again says how soon the agent is to be asked again before the client hears of it; 0
// if it isn't.
func (n *node) again(m *member, err error) time.Duration {
	if n.session.attaches() && n.header == nil && status.Code(err) == codes.Unavailable && time.Since(n.session.began) < replayPatience {
		if m.conn != nil {
			m.conn.ResetConnectBackoff()
		}
		return attachRetry
	}
	return 0
}

// replay is how far the merger is with what nodes have retained.
type replay struct {
	// replaying counts the lanes that haven't ended with it, awaited those of them that
	// have nothing at the moment.
	replaying, awaited int
	// blocked is when the client took nothing last, patience how long a lane may be silent.
	blocked, patience int64
	// told says that the client knows that all have ended.
	told bool
}

func (m *merger) setReplaying(l *lane, to bool) {
	if l.replaying == to {
		return
	}
	l.replaying = to
	if to {
		m.replay.replaying++
		return
	}
	m.replay.replaying--
	if m.replay.replaying == 0 && !m.replay.told {
		m.replay.told = true
		m.flush()
		m.out(replayedMessage())
	}
}

// giveUpReplays makes that nodes aren't waited for any longer which are silent although
// there is room.
func (m *merger) giveUpReplays() {
	if m.replay.awaited == 0 {
		return
	}
	limit := m.now() - m.replay.patience
	for i := range m.lanes {
		l := &m.lanes[i]
		if l.replaying && len(l.parcels) == 0 && max(l.heard, m.replay.blocked) < limit {
			m.replay.awaited--
			m.setReplaying(l, false)
		}
	}
}

// share is the room for what waits of one node while records are replayed. Without it
// the first to answer would take all room, and the others came too late to be in order.
type share struct {
	room *semaphore.Weighted
	size int64
}

// newShare is that of one of so many nodes.
func (m *merger) newShare(nodes int) *share {
	size := max(m.limit/2/int64(max(nodes, 1)), minShare)
	return &share{room: semaphore.NewWeighted(size), size: size}
}

func (s *share) take(ctx context.Context, size int64) error {
	if s == nil {
		return nil
	}
	return s.room.Acquire(ctx, min(size, s.size))
}

func (s *share) release(size int64) {
	if s != nil {
		s.room.Release(min(size, s.size))
	}
}
