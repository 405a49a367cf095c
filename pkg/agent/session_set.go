// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apitypes "k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// Defaults of SessionLimits.
const (
	DefaultSessions             = 64
	DefaultSessionsPerNamespace = 32
	DefaultSessionMemory        = 256 << 20
	DefaultSessionRate          = 50_000
	DefaultSessionNodeRate      = 200_000
	DefaultSessionFileBytes     = 1 << 30
)

// SessionLimits bound what trace sessions may take of a node.
type SessionLimits struct {
	// Sessions may run at a time, PerNamespace of them for one namespace; 0:
	// DefaultSessions and DefaultSessionsPerNamespace. The oldest go first.
	Sessions, PerNamespace int
	// Memory bounds all retained streams together, in bytes; 0: DefaultSessionMemory.
	Memory int64
	// Rate is how many records a second the sessions of a namespace may make together,
	// NodeRate those of the node; 0: DefaultSessionRate and DefaultSessionNodeRate.
	Rate, NodeRate int64
	// Files is the directory for files of sessions, empty for none, and FileBytes bounds
	// them together; 0: DefaultSessionFileBytes.
	Files     string
	FileBytes int64
	// Endpoints are the hosts (host:port) that sessions may send to; none: any.
	Endpoints []string
}

func (l *SessionLimits) complete() {
	l.Sessions = cmp.Or(l.Sessions, DefaultSessions)
	l.PerNamespace = cmp.Or(l.PerNamespace, DefaultSessionsPerNamespace)
	l.Memory = cmp.Or(l.Memory, DefaultSessionMemory)
	l.Rate = cmp.Or(l.Rate, DefaultSessionRate)
	l.NodeRate = cmp.Or(l.NodeRate, DefaultSessionNodeRate)
	l.FileBytes = cmp.Or(l.FileBytes, DefaultSessionFileBytes)
}

// sessions are the trace sessions of this node: it records what the API server wants.
type sessions struct {
	agent  *Agent
	limits SessionLimits
	// running counts recorders.
	running sync.WaitGroup

	mu sync.Mutex
	// recorders are those of sessions that there are, ending those whose session is gone
	// but who have not ended yet.
	recorders map[apitypes.UID]*recorder
	ending    map[apitypes.UID]*recorder
	// refused is why a session may not run.
	refused map[apitypes.UID]refusal
	// told are the sessions as their recorders know them.
	told map[apitypes.UID]want
	// changed is closed, and replaced, when the state of a session has changed.
	changed chan struct{}
	// rates are of namespaces; node is of all.
	rates map[string]*bucket
	node  *bucket
	// timer ends sessions whose time is over.
	timer *time.Timer
	last  []session.Session
	// alive are the containers that ran when series were collected last.
	alive atomic.Pointer[map[string]bool]
}

// refusal is a limit that a session is beyond.
type refusal struct{ reason, message string }

// want is what a recorder was told.
type want struct {
	generation int64
	phase      wire.SessionState_Phase
	reason     string
}

func newSessions(a *Agent, limits SessionLimits) *sessions {
	limits.complete()
	return &sessions{
		agent: a, limits: limits, recorders: map[apitypes.UID]*recorder{}, ending: map[apitypes.UID]*recorder{},
		refused: map[apitypes.UID]refusal{}, told: map[apitypes.UID]want{}, changed: make(chan struct{}), rates: map[string]*bucket{},
		node: newBucket(limits.NodeRate, 0, time.Now()),
	}
}

// join begins to record what a session wants.
func (s *sessions) join(ctx context.Context, wanted *session.Session) (*member, error) {
	plan, err := s.agent.prepare(wanted.Start())
	if err != nil {
		return nil, err
	}
	plan.queueSize = sessionQueue
	plan.buckets = s.buckets(wanted.Namespace)
	return s.agent.programs.join(ctx, plan)
}

// set makes the sessions those that are wanted, until ctx ends.
func (s *sessions) set(ctx context.Context, wanted []session.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrange(ctx, wanted)
}

// arrange tells recorders what is wanted, and begins and ends them. The caller holds mu.
func (s *sessions) arrange(ctx context.Context, wanted []session.Session) {
	if ctx.Err() != nil {
		return
	}
	s.last = wanted
	s.admit(wanted)
	here, namespaces := map[apitypes.UID]bool{}, map[string]bool{}
	for i := range wanted {
		here[wanted[i].UID], namespaces[wanted[i].Namespace] = true, true
		s.tell(ctx, wanted[i])
	}
	for uid, r := range s.recorders {
		if !here[uid] {
			s.end(uid, r)
		}
	}
	s.forget(namespaces, time.Now())
	s.schedule(ctx)
	s.prune(wanted)
}

// forget drops the buckets of namespaces without sessions. One that isn't full yet is kept,
// or who makes sessions anew again and again could make any number of records.
func (s *sessions) forget(namespaces map[string]bool, now time.Time) {
	maps.DeleteFunc(s.rates, func(namespace string, b *bucket) bool { return !namespaces[namespace] && b.full(now) })
}

// prune removes files of sessions that are no more, if files have become too many.
func (s *sessions) prune(wanted []session.Session) {
	if s.limits.Files == "" {
		return
	}
	room, here := s.limits.FileBytes, map[string]bool{}
	for i := range wanted {
		here[string(wanted[i].UID)] = true
		room -= fileBytes(&wanted[i])
	}
	removed, err := sink.Prune(s.limits.Files, func(uid string) bool { return here[uid] }, max(room, 0))
	if err != nil {
		s.agent.opts.Log.Warn("files of sessions that are gone can't be removed", "error", err)
	}
	if removed > 0 {
		s.agent.opts.Log.Info("removed files of sessions that are gone, to make room", "bytes", removed)
	}
}

// tell gives a session's recorder its spec, if there is something new about it.
func (s *sessions) tell(ctx context.Context, wanted session.Session) {
	phase, reason, _ := s.verdictLocked(&wanted)
	now := want{wanted.Generation, phase, reason}
	if s.told[wanted.UID] == now {
		return
	}
	s.told[wanted.UID] = now
	r := s.recorders[wanted.UID]
	if r != nil {
		r.want(wanted)
		return
	}
	r = newRecorder(s, wanted)
	s.recorders[wanted.UID] = r
	var recording context.Context
	recording, r.cancel = context.WithCancel(ctx)
	s.running.Go(func() { r.run(recording) })
}

// end ends a session that is no more.
func (s *sessions) end(uid apitypes.UID, r *recorder) {
	delete(s.recorders, uid)
	delete(s.told, uid)
	s.ending[uid] = r
	r.cancel()
	s.running.Go(func() {
		<-r.done
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ending, uid)
		s.pokeLocked()
	})
}

// schedule looks again when the time of the next session is over.
func (s *sessions) schedule(ctx context.Context) {
	if s.timer != nil {
		s.timer.Stop()
	}
	var next time.Time
	for i := range s.last {
		when, ok := s.last[i].Expiry()
		if ok && when.After(time.Now()) && (next.IsZero() || when.Before(next)) {
			next = when
		}
	}
	if !next.IsZero() {
		s.timer = time.AfterFunc(time.Until(next), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.arrange(ctx, s.last)
		})
	}
}

// close waits until all have ended; the context of set must have.
func (s *sessions) close() {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// admit decides which sessions are within the limits, the oldest first.
func (s *sessions) admit(wanted []session.Session) {
	clear(s.refused)
	ordered := slices.Clone(wanted)
	slices.SortFunc(ordered, func(a, b session.Session) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
	})
	var all usage
	of := map[string]*usage{}
	for i := range ordered {
		one := &ordered[i]
		if phase, _, _ := idle(one); phase != wire.SessionState_RUNNING {
			continue
		}
		if of[one.Namespace] == nil {
			of[one.Namespace] = &usage{}
		}
		if refused := s.judge(one, &all, of[one.Namespace]); refused != nil {
			s.refused[one.UID] = *refused
		}
	}
}

// usage is what sessions take.
type usage struct {
	sessions      int
	memory, files int64
}

// judge adds a session to what is used, or says which limit it is beyond.
func (s *sessions) judge(one *session.Session, all, namespace *usage) *refusal {
	memory, files := int64(retainBytes(one)), fileBytes(one)
	switch l := s.limits; {
	case all.sessions >= l.Sessions:
		return &refusal{"TooManySessions", fmt.Sprintf("the node runs %d sessions already, its limit", l.Sessions)}
	case one.Namespace != "" && namespace.sessions >= l.PerNamespace:
		return &refusal{"TooManySessions", fmt.Sprintf("namespace %s has %d sessions on the node already, its limit", one.Namespace, l.PerNamespace)}
	case all.memory+memory > l.Memory:
		return &refusal{"TooMuchMemory", fmt.Sprintf("streams retain %d bytes already, this one would add %d, the node's limit is %d", all.memory, memory, l.Memory)}
	case all.files+files > l.FileBytes:
		return &refusal{"TooMuchDisk", fmt.Sprintf("files may grow to %d bytes already, those of this one to %d more, the node's limit is %d", all.files, files, l.FileBytes)}
	}
	for _, u := range []*usage{all, namespace} {
		u.sessions++
		u.memory += memory
		u.files += files
	}
	return nil
}

// idle says why a session isn't to run whatever the limits are.
func idle(s *session.Session) (phase wire.SessionState_Phase, reason, message string) {
	switch {
	case s.Deleting:
		return wire.SessionState_STOPPED, "Deleted", "it is being deleted"
	case s.Spec.Suspend:
		return wire.SessionState_STOPPED, "Suspended", "spec.suspend is set"
	case s.Expired(time.Now()):
		return wire.SessionState_STOPPED, "Expired", "its time is over"
	}
	return wire.SessionState_RUNNING, "", ""
}

// verdict says whether a session is to run.
func (s *sessions) verdict(one *session.Session) (phase wire.SessionState_Phase, reason, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verdictLocked(one)
}

func (s *sessions) verdictLocked(one *session.Session) (phase wire.SessionState_Phase, reason, message string) {
	if phase, reason, message = idle(one); phase != wire.SessionState_RUNNING {
		return phase, reason, message
	}
	if refused, ok := s.refused[one.UID]; ok {
		return wire.SessionState_FAILED, refused.reason, refused.message
	}
	return phase, "", ""
}

// buckets are those that a session's records take tokens from.
func (s *sessions) buckets(namespace string) []*bucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if namespace == "" {
		return []*bucket{s.node}
	}
	if s.rates[namespace] == nil {
		s.rates[namespace] = newBucket(s.limits.Rate, 0, time.Now())
	}
	return []*bucket{s.rates[namespace], s.node}
}

// poke says that the state of a session has changed.
func (s *sessions) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pokeLocked()
}

func (s *sessions) pokeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// retainRecords is how many records a session's stream has; 0 for the tape's default.
func retainRecords(s *session.Session) int {
	if stream := s.Spec.Output.Stream; stream != nil {
		return int(stream.Retain)
	}
	return 0
}

// retainBytes is how much memory a session's stream may take.
func retainBytes(s *session.Session) int {
	if stream := s.Spec.Output.Stream; stream != nil && stream.RetainBytes != nil {
		return int(stream.RetainBytes.Value())
	}
	return tape.DefaultBytes
}

// fileBytes is how large a session's files may become.
func fileBytes(s *session.Session) int64 {
	file := s.Spec.Output.File
	if file == nil {
		return 0
	}
	size, files := int64(sink.DefaultMaxBytes), int64(cmp.Or(file.MaxFiles, sink.DefaultMaxFiles))
	if file.MaxSize != nil {
		size = file.MaxSize.Value()
	}
	return size * files
}
