// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/wire"
)

// entry is what all nodes say of one session. The board's lock guards it.
type entry struct {
	key types.NamespacedName
	// known says that there is an object of it; orphaned is since when there isn't.
	known    bool
	orphaned time.Time
	// adopted says that what the status said is counted in.
	adopted bool
	// dirty says that a reconciler is told to look, and hasn't yet.
	dirty bool

	parts        map[string]*part
	events, lost tally
	outputs      map[string]*outputTally
	gaps         int64
	lastGap      *gap
	// lastRead is when somebody read it last, as far as is known.
	lastRead time.Time
}

// part is what one node says of a session.
type part struct {
	state *wire.SessionState
	// began is when it began to record here; 0 if it never did.
	began int64
	// ran is until when it ran here, if that was interrupted against its will.
	ran time.Time
}

type outputTally struct{ written, dropped tally }

// gap is a time in which a node didn't record.
type gap struct {
	node     string
	from, to time.Time
}

// adopt goes on with what an earlier controller wrote.
func (e *entry) adopt(status *v1alpha1.SessionStatus) {
	e.adopted = true
	e.events.floor, e.lost.floor = floorOf(status.Events), floorOf(status.Lost)
	for _, o := range status.Outputs {
		t := e.output(o.Name)
		t.written.floor, t.dropped.floor = floorOf(o.Written), floorOf(o.Dropped)
	}
	e.gaps += max(status.Gaps, 0)
	if e.lastGap == nil && status.LastGap != nil {
		e.lastGap = &gap{status.LastGap.Node, status.LastGap.From.Time, status.LastGap.To.Time}
	}
}

func (e *entry) output(name string) *outputTally {
	if e.outputs[name] == nil {
		if e.outputs == nil {
			e.outputs = map[string]*outputTally{}
		}
		e.outputs[name] = &outputTally{}
	}
	return e.outputs[name]
}

// times are those of a report.
type times struct {
	// now is when it came, alive until when the node is known to have been all right,
	// and started when this controller began to listen.
	now, alive, started time.Time
}

// update takes what a node says.
func (e *entry) update(node string, state *wire.SessionState, t times) {
	p := e.parts[node]
	known := p != nil
	if !known {
		p = &part{state: &wire.SessionState{}}
		e.parts[node] = p
	}
	// The agent is another one, and has begun to count anew.
	restarted := p.began != 0 && state.GetBegan() != 0 && state.GetBegan() != p.began
	e.count(p.state, state, known, restarted, t)
	e.mindTheGap(node, p, state, restarted, t)
	if state.GetBegan() != 0 {
		p.began = state.GetBegan()
	}
	if state.GetReaders() > 0 || p.state.GetReaders() > 0 {
		e.lastRead = t.now
	}
	p.state = state
}

// unsaid is told when an agent's first report lacks the session: it has restarted, and
// doesn't know of it yet.
func (e *entry) unsaid(node string, t times) {
	p := e.parts[node]
	waiting := proto.CloneOf(p.state)
	waiting.Phase, waiting.Readers, waiting.Outputs = wire.SessionState_PENDING, 0, nil
	e.mindTheGap(node, p, waiting, false, t)
	p.state = waiting
}

func (e *entry) count(before, now *wire.SessionState, known, restarted bool, t times) {
	old := now.GetBegan() < t.started.UnixNano()
	e.events.add(before.GetRecords(), now.GetRecords(), restarted, known, old)
	e.lost.add(lost(before.GetLoss()), lost(now.GetLoss()), restarted, known, old)
	for _, o := range now.GetOutputs() {
		if !isOutput(o.GetName()) {
			continue
		}
		was := outputOf(before, o.GetName())
		sum := e.output(o.GetName())
		sum.written.add(was.GetWritten(), o.GetWritten(), restarted, known, old)
		sum.dropped.add(was.GetDropped(), o.GetDropped(), restarted, known, old)
	}
}

// lost is the number of records that were lost, at whatever stage.
func lost(l *wire.Loss) uint64 {
	return plus(plus(l.GetKernel(), l.GetQueue()), plus(l.GetRelay(), l.GetThrottled()))
}

func outputOf(state *wire.SessionState, name string) *wire.OutputState {
	for _, o := range state.GetOutputs() {
		if o.GetName() == name {
			return o
		}
	}
	return nil
}

// mindTheGap notices that recording went on elsewhere than where it was, which is not so
// where a session was stopped because somebody wanted that.
func (e *entry) mindTheGap(node string, p *part, state *wire.SessionState, restarted bool, t times) {
	running := p.state.GetPhase() == wire.SessionState_RUNNING
	if running {
		p.ran = t.alive
	}
	switch state.GetPhase() {
	case wire.SessionState_RUNNING:
		// Either the agent is another one, or this one could not go on for a while.
		if !p.ran.IsZero() && (restarted || !running) {
			to := t.now
			if restarted {
				to = latest(time.Unix(0, state.GetBegan()), p.ran)
			}
			e.gaps++
			e.lastGap = &gap{node, p.ran, to}
		}
		p.ran = time.Time{}
	case wire.SessionState_STOPPED:
		p.ran = time.Time{}
	}
}
