// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"time"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/enrich"
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
	// queue may be exchanged when it has been flushed.
	queue    *queue
	enricher *enrich.Enricher
	changes  enrich.Changes
	// close stops following the containers.
	close func()
}

// newIntake makes an intake. The enricher's options lack but the queue's part; without
// them there is no enricher.
func newIntake(q *queue, opts *enrich.Options) (*intake, error) {
	in := &intake{queue: q, close: func() {}}
	if opts == nil {
		return in, nil
	}
	opts.Define, opts.Emit, opts.Hold = in.explain, in.add, hold
	var err error
	if in.enricher, err = enrich.New(*opts); err != nil {
		return nil, err
	}
	in.changes = opts.Containers
	return in, nil
}

// explain and add put into the queue what the enricher says.
func (i *intake) explain(c *container.Container) { i.queue.explain(c) }

func (i *intake) add(ref, target uint32, record []byte) bool { return i.queue.add(ref, target, record) }

// taker is what takes a record, at the least price.
func (i *intake) taker() func(record []byte) {
	if i.enricher == nil {
		return i.record
	}
	return i.enricher.Record
}

// record takes a record, and may change its bytes.
func (i *intake) record(record []byte) {
	if i.enricher == nil {
		i.queue.add(0, 0, record)
		return
	}
	i.enricher.Record(record)
}

// flush hands out what doesn't have to wait.
func (i *intake) flush() {
	if i.enricher != nil {
		i.enricher.Flush()
	}
	i.queue.flush()
}

// waiting says whether records wait for their container.
func (i *intake) waiting() bool { return i.enricher != nil && i.enricher.Waiting() }

// release hands out all.
func (i *intake) release() {
	if i.enricher != nil {
		i.enricher.Release()
	}
	i.queue.flush()
}

// settle gives records that wait a last chance, and then hands out all.
func settle(patience time.Duration, parties ...*party) {
	wait := func(t *party) bool { return t.intake.waiting() }
	for deadline := time.Now().Add(patience); slices.ContainsFunc(parties, wait) && time.Now().Before(deadline); {
		time.Sleep(holdPoll)
		for _, t := range parties {
			if t.intake.enricher != nil {
				t.intake.enricher.Flush()
			}
		}
	}
	for _, t := range parties {
		t.intake.release()
	}
}

// unresolved and withheld are the enricher's counts.
func (i *intake) counts() (unresolved, withheld uint64) {
	if i.enricher == nil {
		return 0, 0
	}
	return i.enricher.Unresolved(), i.enricher.Withheld()
}
