// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/wire"
)

// reportInterval is the shortest time between two reports.
const reportInterval = time.Second

// Sessions is part of wire.AgentServer.
func (a *Agent) Sessions(request *wire.SessionsRequest, stream grpc.ServerStreamingServer[wire.SessionsReport]) error {
	if err := wire.CheckVersion(request.GetProtocol()); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	sent := map[string]*wire.SessionState{}
	for first := true; ; first = false {
		changed := a.sessions.changes()
		report := a.sessions.report(sent)
		if first || len(report.GetSessions())+len(report.GetGone()) > 0 {
			if err := stream.Send(report); err != nil {
				return err
			}
			ticker.Reset(reportInterval)
			// What changes now has to wait. After silence it is told at once.
			changed = nil
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-a.stopping.Done():
			return nil
		case <-changed:
		case <-ticker.C:
		}
	}
}

// report has what has changed since what was sent, which it brings up to date.
func (s *sessions) report(sent map[string]*wire.SessionState) *wire.SessionsReport {
	report, here := &wire.SessionsReport{}, map[string]bool{}
	for _, r := range s.all() {
		state := r.state()
		here[state.GetUid()] = true
		if !proto.Equal(sent[state.GetUid()], state) {
			sent[state.GetUid()] = state
			report.Sessions = append(report.Sessions, state)
		}
	}
	for uid := range sent {
		if !here[uid] {
			delete(sent, uid)
			report.Gone = append(report.Gone, uid)
		}
	}
	slices.Sort(report.Gone)
	return report
}

// changes returns what is closed when the state of a session has changed.
func (s *sessions) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// all are the recorders that there are, also those that are about to end, by UID.
func (s *sessions) all() []*recorder {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Collect(maps.Values(s.recorders))
	all = slices.AppendSeq(all, maps.Values(s.ending))
	slices.SortFunc(all, func(a, b *recorder) int { return cmp.Compare(a.uid, b.uid) })
	return all
}

// current are the recorders of sessions that there are.
func (s *sessions) current() []*recorder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.recorders))
}

// state is how the session is doing here.
func (r *recorder) state() *wire.SessionState {
	loss := r.loss()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &wire.SessionState{
		Uid: string(r.uid), Namespace: r.spec.Namespace, Name: r.spec.Name, Generation: r.spec.Generation,
		Phase: r.phase, Reason: r.reason, Message: r.message, Records: r.records + loss.GetQueue(), Loss: loss, Readers: r.readers,
	}
	if !r.began.IsZero() {
		s.Began = r.began.UnixNano()
	}
	if r.member != nil {
		s.Program = r.member.programID()
	}
	for _, o := range r.outputs {
		s.Outputs = append(s.Outputs, o.state())
	}
	return s
}
