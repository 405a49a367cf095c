// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/wire"
)

const (
	// maxReported bounds the sessions that one node may report: agents run far fewer,
	// and one that has gone mad doesn't fill the controller's memory.
	maxReported = 4096
	// maxEntries bounds those of all nodes.
	maxEntries = 1 << 16
	// unnoticed is how long a node may be gone before its connection breaks: see the
	// relay's keepalive.
	unnoticed = 17 * time.Second
	// untold is how long ago a change may be that an agent reports, which doesn't
	// report more than once a second.
	untold = 5 * time.Second
	// remembered is how long what a node said is kept after its agent is gone: another
	// one may come, and then there was a gap.
	remembered = 10 * time.Minute
	// awaited is how long what agents say of a session is kept without an object of it,
	// of which they may hear before the controller does.
	awaited = time.Minute
)

// board is what all agents say of all sessions.
type board struct {
	mu sync.Mutex
	// started is when this controller began to listen; zero before that.
	started time.Time
	nodes   map[string]*node
	entries map[types.UID]*entry
	// notify tell the reconcilers of namespaced and other sessions to look.
	notify [2]func(types.NamespacedName)
}

// node is one with an agent, or one that had an agent until a moment ago.
type node struct {
	// seat is who speaks for the node.
	seat *seat
	// present says that there is an agent, whether or not it answers.
	present bool
	// connected says that its reports come; since is when that, or the contrary, began.
	connected bool
	since     time.Time
	// alive is until when it is known to have been all right, while it isn't connected.
	alive time.Time
	// heard is when the last report came.
	heard time.Time
	// reason and problem say why it isn't connected.
	reason, problem string
}

// seat is what one agent speaks from; another agent of the node has another.
type seat struct {
	name string
	// reported are the sessions that the agent has spoken of; nil before it did.
	reported map[types.UID]bool
}

func newBoard() *board {
	return &board{nodes: map[string]*node{}, entries: map[types.UID]*entry{}}
}

// start says that agents are being listened to.
func (b *board) start(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started = now
	b.markAll()
}

// onNews sets whom to tell that a session is to be looked at; that must not block.
func (b *board) onNews(cluster bool, notify func(types.NamespacedName)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notify[kindOf(cluster)] = notify
	for _, e := range b.entries {
		if e.dirty && (e.key.Namespace == "") == cluster {
			notify(e.key)
		}
	}
}

func kindOf(cluster bool) int {
	if cluster {
		return 1
	}
	return 0
}

// mark has a session looked at. The caller holds mu.
func (b *board) mark(e *entry) {
	if e.dirty {
		return
	}
	e.dirty = true
	if notify := b.notify[kindOf(e.key.Namespace == "")]; notify != nil {
		notify(e.key)
	}
}

func (b *board) markAll() {
	for _, e := range b.entries {
		b.mark(e)
	}
}

// join says that there is an agent of the node.
func (b *board) join(name string, now time.Time) *seat {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[name]
	if n == nil {
		n = &node{since: now}
		b.nodes[name] = n
	}
	if n.connected {
		b.disconnect(n, name, now)
	}
	n.seat, n.present = &seat{name: name}, true
	if n.problem == "" {
		n.reason, n.problem = reasonUnavailable, "no connection to the agent yet"
	}
	b.markAll()
	return n.seat
}

// leave says that the agent is gone.
func (b *board) leave(s *seat, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.at(s)
	if n == nil {
		return
	}
	if n.connected {
		b.disconnect(n, s.name, now)
	}
	n.present, n.since = false, now
	b.markAll()
}

// at returns the node that a seat speaks for, nil if another does.
func (b *board) at(s *seat) *node {
	if n := b.nodes[s.name]; n != nil && n.seat == s {
		return n
	}
	return nil
}

// broken says that the agent's reports don't come, and why.
func (b *board) broken(s *seat, now time.Time, reason, problem string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.at(s)
	if n == nil {
		return
	}
	news := n.connected || n.reason != reason || n.problem != problem
	if n.connected {
		b.disconnect(n, s.name, now)
	}
	n.reason, n.problem = reason, problem
	if news {
		b.markAll()
	}
}

func (b *board) disconnect(n *node, name string, now time.Time) {
	n.connected, n.since = false, now
	n.alive = latest(n.heard, now.Add(-unnoticed))
	for _, e := range b.entries {
		if p := e.parts[name]; p != nil && p.state.GetReaders() > 0 {
			e.lastRead = now
		}
	}
}

// report takes what an agent says. The first report is of all sessions.
func (b *board) report(s *seat, now time.Time, report *wire.SessionsReport) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.at(s)
	if n == nil {
		return
	}
	t := times{now: now, alive: latest(n.heard, now.Add(-untold)), started: b.started}
	if first := !n.connected; first {
		if t.alive = n.alive; t.alive.IsZero() {
			t.alive = now
		}
		s.reported = map[types.UID]bool{}
		n.connected, n.since, n.reason, n.problem = true, now, "", ""
		defer b.markAll()
		defer b.unsaid(s, t)
	}
	n.heard = now
	for _, state := range report.GetSessions() {
		uid := types.UID(state.GetUid())
		if !s.reported[uid] && len(s.reported) >= maxReported || b.entries[uid] == nil && len(b.entries) >= maxEntries {
			continue
		}
		s.reported[uid] = true
		e := b.entry(uid, types.NamespacedName{Namespace: state.GetNamespace(), Name: state.GetName()}, now)
		e.update(s.name, state, t)
		b.mark(e)
	}
	for _, uid := range report.GetGone() {
		delete(s.reported, types.UID(uid))
		if e := b.entries[types.UID(uid)]; e != nil {
			delete(e.parts, s.name)
			b.mark(e)
		}
	}
}

// unsaid finds what an agent's first report lacks.
func (b *board) unsaid(s *seat, t times) {
	for uid, e := range b.entries {
		if e.parts[s.name] != nil && !s.reported[uid] {
			e.unsaid(s.name, t)
		}
	}
}

func (b *board) entry(uid types.UID, key types.NamespacedName, now time.Time) *entry {
	e := b.entries[uid]
	if e == nil {
		e = &entry{key: key, orphaned: now, parts: map[string]*part{}}
		b.entries[uid] = e
	}
	return e
}

// know says that there is an object, with a status that may be another controller's.
func (b *board) know(uid types.UID, key types.NamespacedName, now time.Time, status *v1alpha1.SessionStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(uid, key, now)
	// An agent may have told another name.
	e.key, e.known = key, true
	if !e.adopted {
		e.adopt(status)
	}
}

// forget says that there is no object of the name any more, but for that with the UID.
func (b *board) forget(key types.NamespacedName, but types.UID, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for uid, e := range b.entries {
		if e.key == key && uid != but {
			e.dirty = false
			if e.known {
				e.known, e.orphaned = false, now
			}
		}
	}
}

// prune forgets nodes and sessions that are long gone.
func (b *board) prune(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, n := range b.nodes {
		if n.present || now.Sub(n.since) < remembered {
			continue
		}
		delete(b.nodes, name)
		for _, e := range b.entries {
			delete(e.parts, name)
		}
	}
	for uid, e := range b.entries {
		if !e.known && now.Sub(e.orphaned) >= awaited {
			delete(b.entries, uid)
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
