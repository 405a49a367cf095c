// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

type serverStream = grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]

// attachment is a client's stream on a session.
type attachment struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	began  time.Time
	// sending is when a message began to be handed to the client, in nanoseconds after
	// began; 0: none is.
	sending atomic.Int64
}

// stalled is how long the client has not taken a message that waits for it.
func (a *attachment) stalled() time.Duration {
	since := a.sending.Load()
	if since == 0 {
		return 0
	}
	return time.Since(a.began) - time.Duration(since)
}

func (a *attachment) send(stream serverStream, message *wire.RunResponse) error {
	a.sending.Store(max(int64(time.Since(a.began)), 1))
	defer a.sending.Store(0)
	return stream.Send(message)
}

// requests receives the client's messages until its side or the stream ends. The
// channel is closed then; whoever serves the stream need not read it to its end.
func requests(stream serverStream) <-chan *wire.RunRequest {
	received := make(chan *wire.RunRequest)
	go func() {
		defer close(received)
		for {
			request, err := stream.Recv()
			if err != nil && !errors.Is(err, io.EOF) {
				// The sender learns of it as well.
				<-stream.Context().Done()
				return
			}
			if err != nil {
				// A client that has no more to say wants the end.
				request = &wire.RunRequest{Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}}
			}
			select {
			case received <- request:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return received
}

// attach puts the stream in the place of the one that the session had.
func (s *session) attach(ctx context.Context) *attachment {
	a := &attachment{began: time.Now()}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached != nil {
		s.attached.cancel(status.Error(codes.Aborted, "the session was resumed by another stream"))
	}
	s.attached = a
	return a
}

func (s *session) detach(a *attachment) {
	a.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached == a {
		s.attached, s.left = nil, time.Now()
	}
}

// serve sends the session to the client until it is over or the stream breaks. The
// messages of first are sent before. Meanwhile the caller's rights are watched.
func (s *session) serve(stream serverStream, received <-chan *wire.RunRequest, a *attachment, first []*wire.RunResponse) error {
	defer s.detach(a)
	defer context.AfterFunc(a.ctx, s.box.wake)()
	var watching sync.WaitGroup
	watching.Go(func() { s.watchRights(a) })
	defer watching.Wait()
	defer a.cancel(nil)
	sent := make(chan error, 1)
	go func() { sent <- s.send(stream, a, first) }()
	for {
		select {
		case err := <-sent:
			return err
		case <-a.ctx.Done():
			// A send that is under way ends with the stream.
			return context.Cause(a.ctx)
		case request, ok := <-received:
			if !ok {
				received = nil
			}
			if request.GetStop() != nil {
				s.stop()
			}
		}
	}
}

func (s *session) send(stream serverStream, a *attachment, first []*wire.RunResponse) error {
	for _, message := range first {
		if err := a.send(stream, message); err != nil {
			return err
		}
	}
	for {
		message, done, err := s.box.next(a.ctx)
		if done || err != nil {
			return err
		}
		if err := a.send(stream, message); err != nil {
			return err
		}
	}
}
