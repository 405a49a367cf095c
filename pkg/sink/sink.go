// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"nodegadget.dev/pkg/tape"
)

const (
	// linger is how long an output goes on with what there is when its context has ended,
	// lastPause how long it then waits at most before it tries again.
	linger    = 3 * time.Second
	lastPause = 300 * time.Millisecond
	// What fails is tried again after firstPause, and then ever less often.
	firstPause = 200 * time.Millisecond
	maxPause   = 10 * time.Second
)

// Session is the trace session that an output belongs to.
type Session struct {
	// Namespace is empty for a ClusterTraceSession.
	Namespace, Name, UID string
}

// State is how an output is doing. Counters only grow.
type State struct {
	// Written counts the records that the output has taken, Dropped those that it has
	// not, because it could not or not in time.
	Written, Dropped uint64
	// Err is what is wrong with the output now, nil if nothing is.
	Err error
}

// progress is the State of an output. The zero value has done nothing.
type progress struct {
	mu     sync.Mutex
	state  State
	reader *tape.Reader
}

// begin begins a Run, and end ends it: what the reader has missed, and what it leaves
// behind, is dropped.
func (p *progress) begin(reader *tape.Reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reader = reader
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Dropped += p.reader.Unread()
	p.reader = nil
}

// count adds to what was written and dropped.
func (p *progress) count(written, dropped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Written += uint64(written)
	p.state.Dropped += uint64(dropped)
}

// note says what is wrong from now on, nil if nothing is. It returns that.
func (p *progress) note(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Err = err
	return err
}

// State says how the output is doing. It may be called at any time.
func (p *progress) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	if p.reader != nil {
		s.Dropped += p.reader.Missed()
	}
	return s
}

// span is the time that a Run has: until ctx ends it waits for records, until late it
// finishes with what there is.
type span struct {
	ctx, late context.Context
	cancel    context.CancelFunc
}

// newSpan must be followed by cancel.
func newSpan(ctx context.Context) *span {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(linger, cancel)
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return &span{ctx: ctx, late: late, cancel: func() {
		stop()
		cancel()
	}}
}

// over says that there is no time left.
func (s *span) over() bool { return s.late.Err() != nil }

// pause waits before what has failed is tried again. It is false if there is no time.
func (s *span) pause(d time.Duration) bool {
	ended := s.ctx.Done()
	if s.ctx.Err() != nil {
		ended, d = nil, min(d, lastPause)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended:
	case <-s.late.Done():
	}
	return !s.over()
}

// newRetries says how long to wait before each next try.
func newRetries() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = firstPause, maxPause
	b.Reset()
	return b
}
