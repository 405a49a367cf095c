// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

const (
	// minBackoff and maxBackoff are how long is waited before an agent is asked again,
	// up to half as much again by chance.
	minBackoff = 200 * time.Millisecond
	maxBackoff = 5 * time.Second
	// prunePeriod is how often it is forgotten what nobody needs any more.
	prunePeriod = 30 * time.Second
)

// listener fills a board.
type listener struct {
	board  *board
	agents func(ctx context.Context, run func(ctx context.Context, node string, agent wire.AgentClient))
}

// run listens to all agents until ctx ends.
func (l *listener) run(ctx context.Context) error {
	l.board.start(time.Now())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.agents(ctx, l.listen)
	}()
	ticker := time.NewTicker(prunePeriod)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			l.board.prune(now)
		case <-done:
			return nil
		}
	}
}

// listen hears one agent until ctx ends.
func (l *listener) listen(ctx context.Context, node string, agent wire.AgentClient) {
	seat := l.board.join(node, time.Now())
	defer func() { l.board.leave(seat, time.Now()) }()
	backoff := minBackoff
	for {
		heard, err := l.hear(ctx, seat, agent)
		if ctx.Err() != nil {
			return
		}
		reason, problem := whyNot(err)
		l.board.broken(seat, time.Now(), reason, problem)
		if heard {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// hear passes on what an agent says until it stops.
func (l *listener) hear(ctx context.Context, seat *seat, agent wire.AgentClient) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := agent.Sessions(ctx, &wire.SessionsRequest{Protocol: wire.Current()})
	if err != nil {
		return false, err
	}
	for {
		report, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		l.board.report(seat, time.Now(), report)
	}
}

// whyNot says why an agent doesn't report.
func whyNot(err error) (reason, problem string) {
	s := status.Convert(err)
	if s.Code() == codes.Unimplemented {
		return reasonTooOld, "the agent is older than the controller and knows nothing of trace sessions"
	}
	return reasonUnavailable, "the agent doesn't report: " + s.Message()
}
