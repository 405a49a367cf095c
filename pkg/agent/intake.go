// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"time"

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
	opts.Define, opts.Emit, opts.Hold = q.explain, q.add, hold
	var err error
	if in.enricher, err = enrich.New(*opts); err != nil {
		return nil, err
	}
	in.changes = opts.Containers
	q.unexplained = in.enricher.Again
	return in, nil
}

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
func settle(patience time.Duration, members []*member) {
	wait := func(m *member) bool { return m.intake.waiting() }
	for deadline := time.Now().Add(patience); slices.ContainsFunc(members, wait) && time.Now().Before(deadline); {
		time.Sleep(holdPoll)
		for _, m := range members {
			if m.intake.enricher != nil {
				m.intake.enricher.Flush()
			}
		}
	}
	for _, m := range members {
		m.intake.release()
	}
}

// unresolved and withheld are the enricher's counts.
func (i *intake) counts() (unresolved, withheld uint64) {
	if i.enricher == nil {
		return 0, 0
	}
	return i.enricher.Unresolved(), i.enricher.Withheld()
}
