// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/wire"
)

const (
	// patience is how long an agent may be out of reach before that is a failure:
	// connections break, and agents are restarted.
	patience = 3 * time.Second
	// sluggish is how long an agent may not know of a session.
	sluggish = 30 * time.Second
	// settling is how long a controller that has just begun waits for agents before it
	// changes what the last one wrote, settlingLeast if all are there.
	settling, settlingLeast = 5 * time.Second, time.Second
	// maxFailures bounds the failures in a status.
	maxFailures = 10
)

// Reasons of failures that the controller finds itself.
const (
	reasonUnavailable = "AgentUnavailable"
	reasonTooOld      = "AgentTooOld"
	reasonNotSeen     = "NotSeen"
	reasonUnknown     = "Unknown"
)

// view is how a session is doing now, on all nodes.
type view struct {
	// done are those on which there is nothing more to do: a snapshot has been taken.
	desired, running, failed, done int
	// outdated of those that run do so with an older spec than that of generation.
	outdated   int
	generation int64
	// failures are the first by name of node.
	failures []failure
	// began is when it began where it runs longest.
	began        time.Time
	events, lost int64
	gaps         int64
	lastGap      *gap
	outputs      map[string]outputView
	// anywhere says that any agent reports it running, whether or not it should.
	anywhere bool
	// reading says that somebody reads it, lastRead when somebody did.
	reading  bool
	lastRead time.Time
	// settled says that all agents had the time to report; unsure that how the session is
	// doing may change even if no report comes.
	settled, unsure bool
	// started is when this controller began to listen.
	started time.Time
}

type failure struct{ node, reason, message string }

type outputView struct {
	written, dropped int64
	failing          int
	// node is the first by name on which it fails, err how.
	node, err string
}

// view looks at a session, which isn't dirty then.
func (b *board) view(s *session.Session, now time.Time) *view {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := &view{outputs: map[string]outputView{}, generation: s.Generation}
	e := b.entry(s.UID, types.NamespacedName{Namespace: s.Namespace, Name: s.Name}, now)
	e.dirty = false
	v.events, v.lost, v.gaps, v.lastGap, v.lastRead = e.events.total(), e.lost.total(), e.gaps, e.lastGap, e.lastRead
	for name, sum := range e.outputs {
		v.outputs[name] = outputView{written: sum.written.total(), dropped: sum.dropped.total()}
	}
	all := true
	for name, n := range b.nodes {
		if !n.present {
			continue
		}
		all = all && n.connected
		v.look(name, n, e.parts[name], s, now)
	}
	v.started = b.started
	since := now.Sub(b.started)
	v.settled = !b.started.IsZero() && (since >= settling || all && since >= settlingLeast)
	slices.SortFunc(v.failures, func(a, b failure) int { return cmp.Compare(a.node, b.node) })
	v.failures = slices.Clip(v.failures[:min(len(v.failures), maxFailures)])
	return v
}

// look adds a node.
func (v *view) look(name string, n *node, p *part, s *session.Session, now time.Time) {
	var state *wire.SessionState
	if p != nil {
		state = p.state
	}
	if n.connected {
		v.anywhere = v.anywhere || state.GetPhase() == wire.SessionState_RUNNING
		v.reading = v.reading || state.GetReaders() > 0
	}
	if !s.On(name) {
		return
	}
	v.desired++
	switch {
	case !n.connected && now.Sub(n.since) >= patience:
		v.fail(name, n.reason, n.problem)
		return
	case !n.connected:
		v.unsure = true
	}
	switch state.GetPhase() {
	case wire.SessionState_RUNNING:
		v.run(state)
	case wire.SessionState_FAILED:
		v.fail(name, state.GetReason(), state.GetMessage())
	case wire.SessionState_STOPPED:
		// Or it was suspended, which takes a moment to pass.
		if reason := state.GetReason(); reason == "Done" || reason == "Ended" {
			v.done++
		}
	case wire.SessionState_PENDING:
		v.unsure = true
		if state == nil && n.connected && now.Sub(latest(n.since, s.Created)) >= sluggish {
			v.fail(name, reasonNotSeen, "the agent is there, but doesn't know of the session: it may not be able to ask the API server")
		}
	}
	v.addOutputs(name, state)
}

func (v *view) run(state *wire.SessionState) {
	v.running++
	if state.GetGeneration() < v.generation {
		v.outdated++
	}
	if began := state.GetBegan(); began != 0 && (v.began.IsZero() || time.Unix(0, began).Before(v.began)) {
		v.began = time.Unix(0, began)
	}
}

func (v *view) fail(node, reason, message string) {
	v.failed++
	v.failures = append(v.failures, failure{node, reason, message})
}

func (v *view) addOutputs(node string, state *wire.SessionState) {
	for _, o := range state.GetOutputs() {
		if o.GetError() == "" || !isOutput(o.GetName()) {
			continue
		}
		sum := v.outputs[o.GetName()]
		sum.failing++
		if sum.node == "" || node < sum.node {
			sum.node, sum.err = node, o.GetError()
		}
		v.outputs[o.GetName()] = sum
	}
}

// isOutput says whether outputs of that name exist.
func isOutput(name string) bool { return name == "file" || name == "otlp" || name == "metrics" }
