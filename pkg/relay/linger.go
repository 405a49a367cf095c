// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxAway is how long a client is waited for that can't come for lack of an API server.
const maxAway = 10 * time.Minute

// orphaned says whether the client has had the time to come back since it left. One that
// owns what is shown has less, unless the API server was away, which is on its way: the
// time begins when that is there again.
func (s *session) orphaned(left time.Time) bool {
	opts := &s.relay.opts
	if !s.start.GetAttach().GetOwner() {
		return time.Since(left) > opts.Linger
	}
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	switch {
	case opts.Gate.Reachable(ctx) != nil:
		s.away = time.Now()
		return time.Since(left) > maxAway
	case s.away.After(left):
		return time.Since(s.away) > opts.Linger
	}
	return time.Since(left) > opts.OwnerLinger
}

// linger keeps what has not arrived at the client for a while, when the session is over,
// unless the client may not see it any more.
func (s *session) linger() {
	s.relay.over(s)
	defer s.relay.forget(s)
	deadline := time.Now().Add(s.relay.opts.Linger)
	ticker := time.NewTicker(min(lossInterval, s.relay.opts.Linger))
	defer ticker.Stop()
	for !s.box.withdrawn() {
		select {
		case <-s.relay.closing:
			return
		case <-s.dropped:
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		attached := s.attached
		s.mu.Unlock()
		if attached == nil && time.Now().After(deadline) {
			return
		}
		if attached != nil && attached.stalled() > s.relay.opts.Stall {
			attached.cancel(status.Error(codes.ResourceExhausted, "the client doesn't read the end of its run and is cut off"))
		}
	}
}
