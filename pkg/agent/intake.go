// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync/atomic"
	"time"

	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/tracer"
)

const (
	// hold is how long a record waits for its container: longer than the registry
	// asks the runtime, which then says itself that nothing is known.
	hold = 3 * time.Second
	// lastHold is how long the last records of a run wait, intervalHold those of
	// an interval, which ends with them.
	lastHold     = time.Second
	intervalHold = 200 * time.Millisecond
	// holdPoll is how often these look for news.
	holdPoll = 2 * time.Millisecond
)

// intake takes records from the tracer to the queue, past who says whose they are.
// Without an enricher nobody does.
type intake struct {
	queue    *queue
	enricher *enrich.Enricher
	// pause is how long the tracer waits on purpose before it looks again.
	pause time.Duration
	// looked is when it did last, 0 when it has ended.
	looked atomic.Int64
}

// newIntake makes an intake. The enricher's options lack but the queue's part; without
// them there is no enricher.
func newIntake(q *queue, pause time.Duration, opts *enrich.Options) (*intake, error) {
	in := &intake{queue: q, pause: pause}
	in.looked.Store(time.Now().UnixNano())
	if opts == nil {
		return in, nil
	}
	opts.Define, opts.Emit, opts.Hold = q.explain, q.add, hold
	var err error
	if in.enricher, err = enrich.New(*opts); err != nil {
		return nil, err
	}
	q.unexplained = in.enricher.Again
	return in, nil
}

func (i *intake) handler() tracer.Handler {
	if i.enricher == nil {
		return tracer.Handler{Record: func(record []byte) { i.queue.add(0, 0, record) }, Flush: i.flush}
	}
	return tracer.Handler{Record: i.enricher.Record, Flush: i.flush}
}

// flush is called when the tracer has read all there is, or at the end of an interval.
func (i *intake) flush() {
	i.looked.Store(time.Now().UnixNano())
	switch {
	case i.enricher == nil:
		i.queue.flush()
	case i.queue.interval:
		i.settle(intervalHold)
	default:
		i.enricher.Flush()
		i.queue.flush()
	}
}

// silent is how long ago the tracer should have looked for records, and has not.
func (i *intake) silent(now time.Time) time.Duration {
	looked := i.looked.Load()
	if looked == 0 {
		return 0
	}
	return max(now.Sub(time.Unix(0, looked))-i.pause, 0)
}

// end hands out what still waits, once the tracer has ended, and closes the queue.
func (i *intake) end() {
	i.looked.Store(0)
	if i.enricher != nil && !i.queue.interval {
		i.settle(lastHold)
	}
	i.queue.close()
}

// settle gives records that wait a last chance, and then hands out all.
func (i *intake) settle(patience time.Duration) {
	for deadline := time.Now().Add(patience); i.enricher.Waiting() && time.Now().Before(deadline); {
		time.Sleep(holdPoll)
		i.enricher.Flush()
	}
	i.enricher.Release()
	i.queue.flush()
}

// unresolved and withheld are the enricher's counts.
func (i *intake) counts() (unresolved, withheld uint64) {
	if i.enricher == nil {
		return 0, 0
	}
	return i.enricher.Unresolved(), i.enricher.Withheld()
}
