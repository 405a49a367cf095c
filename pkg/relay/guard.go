// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// recheckTimeout bounds the questions of one time.
	recheckTimeout = 30 * time.Second
	// recheckRetry is the part of the interval after which is asked again what got no
	// answer, at first.
	recheckRetry = 8
)

// guard keeps the time of asking whether a stream's caller may still see what it shows.
type guard struct {
	every, limit time.Duration
	// answered is when the last question was asked that got a yes, wait how long it is to
	// the next one.
	answered time.Time
	wait     time.Duration
	// away says that the last question got no answer.
	away bool
}

// pause is somewhat shorter than planned, so that runs which began together don't ask
// together, and ends when it has to be known.
func (g *guard) pause(now time.Time) time.Duration {
	earlier := time.Duration(rand.Float64() / 4 * float64(g.wait))
	return min(g.wait-earlier, g.left(now))
}

// left is how long the stream may go on without an answer.
func (g *guard) left(now time.Time) time.Duration { return g.answered.Add(g.limit).Sub(now) }

// take judges the answer to what was asked at a time. An error is how the stream ends.
func (g *guard) take(asked, now time.Time, answer error) error {
	late := g.left(now) <= 0
	no := answer != nil && status.Code(answer) != codes.Unavailable
	switch {
	case answer == nil:
		g.answered, g.wait, g.away = asked, g.every, false
		return nil
	case no && (late || !g.away):
		return withdrawal(answer)
	case late:
		return status.Errorf(codes.DeadlineExceeded,
			"the run ends because for %s the API server hasn't said whether its caller may still see it: %s", g.limit, reason(answer))
	case g.away && !no:
		g.wait = min(2*g.wait, g.every)
	default:
		g.wait = g.every / recheckRetry
	}
	// A no of an API server that was away is asked for once more: one that has just
	// started says so to everybody before it has read the bindings.
	g.away = !no
	return nil
}

// withdrawal says that what was allowed isn't any more.
func withdrawal(answer error) error {
	if status.Code(answer) == codes.Unauthenticated {
		return status.Errorf(codes.Unauthenticated, "the credentials of the run were withdrawn or have run out: %s", reason(answer))
	}
	return status.Errorf(status.Code(answer), "the run ends because a right was withdrawn: %s", reason(answer))
}

// withdrawals counts streams by why they were ended.
type withdrawals struct{ denied, void, unanswered atomic.Uint64 }

func (w *withdrawals) count(code codes.Code) {
	switch code {
	case codes.Unauthenticated:
		w.void.Add(1)
	case codes.DeadlineExceeded:
		w.unanswered.Add(1)
	default:
		w.denied.Add(1)
	}
}

// watchRights asks again and again whether the stream's caller may see the session, and
// ends the stream if not. It returns when the stream has ended.
func (s *session) watchRights(a *attachment) {
	opts := &s.relay.opts
	g := guard{every: opts.Recheck, limit: opts.Unanswered, answered: time.Now(), wait: opts.Recheck}
	for {
		timer := time.NewTimer(g.pause(time.Now()))
		select {
		case <-a.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		asked := time.Now()
		answer := s.stillMay(a.ctx, min(recheckTimeout, g.left(asked)))
		if a.ctx.Err() != nil {
			return
		}
		if answer != nil {
			s.relay.opts.Log.Warn("the right to see a session isn't confirmed", "session", s.String(), "caller", s.caller.String(), "error", answer)
		}
		if err := g.take(asked, time.Now(), answer); err != nil {
			s.withdraw(a, err)
			return
		}
	}
}

// stillMay asks what was asked when the stream began: who its caller is, and whether they
// may see the session.
func (s *session) stillMay(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	caller, err := s.relay.opts.Gate.Authenticate(ctx)
	if err != nil {
		return err
	}
	if !s.caller.Same(caller) {
		return status.Errorf(codes.Unauthenticated, "they were those of user %q and are those of user %q now", s.caller, caller)
	}
	return s.relay.may(ctx, caller, s.start)
}

// withdraw ends a stream whose caller may not see it any more. The session ends with it
// and nothing of it is kept, but for one thing: whose credentials are void may come back
// with better ones, as when the connection had broken.
func (s *session) withdraw(a *attachment, err error) {
	s.mu.Lock()
	if status.Code(err) != codes.Unauthenticated && s.attached == a {
		s.box.withdraw(err)
	}
	s.mu.Unlock()
	s.relay.withdrawn.count(status.Code(err))
	a.cancel(err)
}
