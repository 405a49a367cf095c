// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"sync"
	"time"

	"nodegadget.dev/pkg/tape"
)

// linger is how long an output goes on with what there is when its context has ended.
const linger = 3 * time.Second

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

// begin and end enclose a Run.
func (p *progress) begin(reader *tape.Reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reader = reader
}

// end counts what the reader has missed, and what it leaves behind.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Dropped += p.reader.Missed() + p.reader.Unread()
	p.reader = nil
}

func (p *progress) wrote(records uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Written += records
}

func (p *progress) dropped(records uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Dropped += records
}

// now is what is wrong now, nil if nothing is.
func (p *progress) now(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Err = err
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

// lingering is a context that ends a while after ctx does. Its cancel must be called.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(linger, cancel)
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return late, func() {
		stop()
		cancel()
	}
}
