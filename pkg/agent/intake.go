// SPDX-License-Identifier: Apache-2.0

package agent

import (
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
}

// newIntake makes an intake. The enricher's options lack but the queue's part.
func newIntake(q *queue, opts *enrich.Options) (*intake, error) {
	if opts == nil {
		return &intake{queue: q}, nil
	}
	opts.Define, opts.Emit, opts.Hold = q.explain, q.add, hold
	enricher, err := enrich.New(*opts)
	if err != nil {
		return nil, err
	}
	q.unexplained = enricher.Again
	return &intake{queue: q, enricher: enricher}, nil
}

func (i *intake) handler() tracer.Handler {
	switch {
	case i.enricher == nil:
		return tracer.Handler{Record: func(record []byte) { i.queue.add(0, 0, record) }, Flush: i.queue.flush}
	case i.queue.interval:
		return tracer.Handler{Record: i.enricher.Record, Flush: func() { i.settle(intervalHold) }}
	}
	return tracer.Handler{Record: i.enricher.Record, Flush: func() {
		i.enricher.Flush()
		i.queue.flush()
	}}
}

// end hands out what still waits, once the tracer has ended, and closes the queue.
func (i *intake) end() {
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
