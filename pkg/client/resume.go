// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// attemptTimeout bounds one attempt to connect again.
const attemptTimeout = 10 * time.Second

// errForgotten says that the relay doesn't know the session any more.
var errForgotten = errors.New("the relay doesn't know the session any more")

// outage is a time without a connection.
type outage struct {
	// reason is why the connection broke, told the last reason why there is none.
	reason error
	told   string
	delay  backoff.ExponentialBackOff
	// deadline is when it is given up.
	deadline time.Time
}

func newOutage(reason error, patience time.Duration) *outage {
	return &outage{
		reason: reason, told: reason.Error(), deadline: time.Now().Add(patience),
		delay: backoff.ExponentialBackOff{
			InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: 5 * time.Second,
		},
	}
}

// resume connects again, and goes on with the session where it broke, or begins
// another if the relay has forgotten it. When there is another reason why that isn't
// possible yet, it returns to tell it, and wants to be called again.
func (r *Run) resume() error {
	for {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		if r.stopping.Err() != nil {
			return fmt.Errorf("the run was stopped while its connection was broken: %w", r.broken.reason)
		}
		again, err := r.attempt()
		if err == nil {
			r.broken = nil
			return nil
		}
		if !again {
			return err
		}
		if time.Now().After(r.broken.deadline) {
			return fmt.Errorf("the connection broke, and none could be made for %s: %w", r.conn.retry, err)
		}
		select {
		case <-r.stopping.Done():
		case <-time.After(r.broken.delay.NextBackOff()):
		}
		if text := err.Error(); text != r.broken.told {
			r.broken.told = text
			r.pending = append(r.pending, notice("not connected yet: "+text))
			return nil
		}
	}
}

// attempt tries once to go on. Whether it makes sense to try again depends on what
// goes wrong.
func (r *Run) attempt() (again bool, err error) {
	r.connect()
	again, err = r.reopen(&wire.RunRequest{Request: &wire.RunRequest_Resume{Resume: &wire.Resume{
		Protocol: wire.Current(), Session: r.session, After: r.last,
	}}})
	if errors.Is(err, errForgotten) {
		again, err = r.reopen(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: r.start}})
	}
	return again, err
}

// connect waits until the connection stands, or an attempt has failed. Which of
// them, the next call says.
func (r *Run) connect() {
	ctx, cancel := context.WithTimeout(r.stopping, attemptTimeout)
	defer cancel()
	r.conn.grpc.ResetConnectBackoff()
	r.conn.grpc.Connect()
	for {
		state := r.conn.grpc.GetState()
		if state == connectivity.Ready || state == connectivity.TransientFailure || !r.conn.grpc.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// reopen makes another stream for the run.
func (r *Run) reopen(request *wire.RunRequest) (again bool, err error) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer context.AfterFunc(r.stopping, cancel)()
	late := time.AfterFunc(attemptTimeout, cancel)
	first, err := r.open(ctx, request)
	if !late.Stop() {
		cancel()
		return true, fmt.Errorf("no answer within %s", attemptTimeout)
	}
	if err != nil {
		cancel()
		code := status.Code(err)
		if (code == codes.NotFound || code == codes.OutOfRange) && request.GetResume() != nil {
			return false, errForgotten
		}
		return code == codes.Unavailable || code == codes.Canceled, r.conn.wrap("resuming the run", err)
	}
	if err := r.begin(first); err != nil {
		cancel()
		return false, err
	}
	r.missed.Messages += first.GetSession().GetMissedMessages()
	r.missed.Records += first.GetSession().GetMissedRecords()
	r.release()
	r.release = cancel
	return false, nil
}
