// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// attachPatience is how long the agent may take to hear of a session that somebody wants
// to read. One that it knows may take as long to begin as the caller has patience.
const attachPatience = 3 * time.Second

// attachment is a client that reads a session.
type attachment struct {
	stream   grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]
	recorder *recorder
	reader   *tape.Reader
	follow   bool
	// base is what the session had lost when the client came, sent how many records the
	// client was sent.
	base *wire.Loss
	sent uint64
	told *wire.Loss
}

// attach serves a client that reads a session.
func (a *Agent) attach(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse], wanted *wire.Attach) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(a.stopping, cancel)()
	r, header, err := a.sessions.find(ctx, wanted)
	if status.Code(err) == codes.NotFound {
		// An end without a beginning says that there is nothing here.
		return stream.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Loss: &wire.Loss{}}}})
	}
	if err != nil {
		return err
	}
	defer r.leave()
	if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}}); err != nil {
		return err
	}
	if err := a.tellConfinement(header.GetGadget().GetName(), stream.Send); err != nil {
		return err
	}
	owner := wanted.GetOwner() && r.interactive()
	go func() {
		awaitStop(stream)
		if owner && stream.Context().Err() == nil {
			// All that was recorded until now still comes, and then the tape's end.
			r.finish()
			return
		}
		cancel()
	}()
	at := &attachment{
		stream: stream, recorder: r, follow: wanted.GetFollow(), base: r.loss(), told: &wire.Loss{},
		reader: r.tape.Read(tape.From{Since: wanted.GetSince(), Tail: wanted.GetTail()}),
	}
	if owner {
		at.base = &wire.Loss{}
	}
	if err := at.send(ctx); err != nil {
		return err
	}
	end := &wire.End{Records: at.sent + at.reader.Missed(), Loss: at.loss()}
	return stream.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: end}})
}

// send sends what there is until the client wants no more, or nothing more comes.
func (at *attachment) send(ctx context.Context) error {
	for tellLoss := time.Now().Add(lossInterval); ; {
		until, cancel := context.WithDeadline(ctx, tellLoss)
		message, err := at.reader.Next(until)
		cancel()
		switch {
		case errors.Is(err, io.EOF), err != nil && ctx.Err() != nil:
			return nil
		case err == nil:
			if err := at.pass(message); err != nil {
				return err
			}
			if message.GetReplayed() != nil && !at.follow {
				return nil
			}
		}
		if time.Now().After(tellLoss) {
			tellLoss = time.Now().Add(lossInterval)
			if err := at.sendLoss(); err != nil {
				return err
			}
		}
	}
}

// pass sends a message of the tape. Records are numbered for this client: those that it
// doesn't want aren't missing.
func (at *attachment) pass(message *wire.RunResponse) error {
	if batch := message.GetBatch(); batch != nil {
		batch.Sequence = at.sent + at.reader.Missed()
		at.sent += uint64(batch.GetCount())
	}
	return at.stream.Send(message)
}

// loss is what the client has not got: what the session has lost since it came, and
// what fell out of the tape before it was read.
func (at *attachment) loss() *wire.Loss {
	loss := at.recorder.loss()
	loss.Kernel -= at.base.GetKernel()
	loss.Skipped -= at.base.GetSkipped()
	loss.Unresolved -= at.base.GetUnresolved()
	loss.Withheld -= at.base.GetWithheld()
	loss.Throttled -= at.base.GetThrottled()
	// What found no way to the tape has no number.
	loss.Kernel += loss.GetQueue() - at.base.GetQueue()
	loss.Queue = at.reader.Missed()
	return loss
}

func (at *attachment) sendLoss() error {
	loss := at.loss()
	if proto.Equal(loss, at.told) {
		return nil
	}
	at.told = loss
	return at.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Loss{Loss: loss}})
}

// find returns a session that can be read, with one reader more. One that is only about
// to begin is waited for.
func (s *sessions) find(ctx context.Context, wanted *wire.Attach) (*recorder, *wire.Header, error) {
	timer := time.NewTimer(attachPatience)
	defer timer.Stop()
	for {
		changed := s.changes()
		r := s.lookUp(wanted)
		header, err := r.enter()
		if err == nil {
			return r, header, nil
		}
		if status.Code(err) == codes.FailedPrecondition {
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-timer.C:
			if r == nil {
				return nil, nil, err
			}
		case <-changed:
		}
	}
}

func (s *sessions) lookUp(wanted *wire.Attach) *recorder {
	for _, r := range s.all() {
		r.mu.Lock()
		found := r.spec.Namespace == wanted.GetNamespace() && r.spec.Name == wanted.GetName() &&
			(wanted.GetUid() == "" || wanted.GetUid() == string(r.uid))
		r.mu.Unlock()
		if found {
			return r
		}
	}
	return nil
}

// enter counts a reader, if there is something to read.
func (r *recorder) enter() (*wire.Header, error) {
	if r == nil {
		return nil, status.Error(codes.NotFound, "this node has no such session")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !keepsStream(&r.spec):
		return nil, status.Error(codes.FailedPrecondition, "the session keeps no stream to be read: add output.stream to its spec")
	case r.tape != nil:
		r.readers++
		r.sessions.poke()
		return r.header, nil
	case r.phase == wire.SessionState_FAILED:
		return nil, status.Errorf(codes.FailedPrecondition, "the session doesn't run on this node: %s: %s", r.reason, r.message)
	case r.phase == wire.SessionState_STOPPED:
		return nil, status.Errorf(codes.FailedPrecondition, "the session has recorded nothing on this node: %s", r.message)
	}
	return nil, status.Error(codes.Unavailable, "the session has not begun on this node yet")
}

// leave counts a reader less.
func (r *recorder) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers--
	r.sessions.poke()
}

// interactive says whether the session belongs to a client.
func (r *recorder) interactive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spec.Interactive
}
