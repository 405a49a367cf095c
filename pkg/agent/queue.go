// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/wire"
)

// A batch is sent when it has batchRecords or batchBytes: the knee beyond which
// larger messages don't make an event cheaper (docs/benchmarks.md). A message of
// more than 32 KiB costs a buffer of 1 MiB on each side: that is gRPC's next size
// (mem/buffer_pool.go).
const (
	batchRecords = 256
	batchBytes   = 30 << 10
	// A table's interval is sent in few messages, each within wire.MaxMessage.
	intervalBytes = 256 << 10
	// explanationBytes is what a container is counted with that a batch explains.
	explanationBytes = 1 << 10
)

// parcel is a batch, with the containers that have to be explained before it.
type parcel struct {
	wire.Batch
	containers []*container.Container
	// shared says that others have the same bytes: they must stay as they are.
	shared bool
}

// size is what the parcel counts for in the queue's limit.
func (p *parcel) size() int64 {
	return int64(len(p.Records) + 4*len(p.Targets) + explanationBytes*len(p.containers))
}

func (p *parcel) reset() {
	p.Records, p.Targets, p.Count, p.Sequence, p.IntervalEnd = p.Records[:0], p.Targets[:0], 0, 0, false
	clear(p.containers)
	p.containers = p.containers[:0]
}

// clone is a parcel that takes no more memory than it has to.
func (p *parcel) clone() *parcel {
	c := &parcel{containers: slices.Clone(p.containers)}
	c.Sequence, c.Count, c.IntervalEnd = p.Sequence, p.Count, p.IntervalEnd
	c.Records, c.Targets = bytes.Clone(p.Records), slices.Clone(p.Targets)
	return c
}

// queue makes batches of records and keeps a bounded number of bytes of them for
// a client. Its writer never waits: a batch that finds no room is dropped and counted.
type queue struct {
	filter *event.Filter
	// outlets get the batches that are made here, if there are any: what is said of the
	// reader below is said of theirs.
	outlets []*queue
	// buckets have a token for each record, or it is left out.
	buckets   []*bucket
	throttled atomic.Uint64
	interval  bool
	batches   chan *parcel
	spare     chan *parcel
	limit     int64
	waiting   atomic.Int64
	lost      atomic.Uint64
	current   *parcel
	// unexplained is called when explanations of containers are dropped.
	unexplained func()
	// sequence counts the records that passed the filter. Its writer is the
	// tracer's goroutine; others read it when that has ended, and records before.
	sequence uint64
	records  atomic.Uint64
}

func newQueue(size int, filter *event.Filter, interval bool) *queue {
	// No batch is smaller than one record, and few are: bytes are the real limit.
	slots := max(size/512, 1)
	return &queue{
		filter: filter, interval: interval, limit: int64(size),
		batches: make(chan *parcel, slots), spare: make(chan *parcel, 64),
		current: &parcel{}, unexplained: func() {},
	}
}

// explain explains a container to the client, before any record that is added later.
func (q *queue) explain(c *container.Container) {
	q.current.containers = append(q.current.containers, c)
}

// add appends a record to the current batch, with the references to its container
// and to that of its target. It says whether the record passed the client's filter.
func (q *queue) add(ref, target uint32, record []byte) bool {
	if q.filter != nil && !q.filter.Match(record) {
		return false
	}
	p := q.current
	if p.Count == 0 {
		p.Sequence = q.sequence
	}
	if target != 0 || len(p.Targets) > 0 {
		// Those before it had none.
		for len(p.Targets) < int(p.Count) {
			p.Targets = append(p.Targets, 0)
		}
		p.Targets = append(p.Targets, target)
	}
	p.Records = wire.AppendRecord(p.Records, ref, record)
	p.Count++
	q.sequence++
	if q.interval {
		if len(p.Records) >= intervalBytes {
			q.push()
		}
		return true
	}
	if p.Count >= batchRecords || len(p.Records) >= batchBytes {
		q.push()
	}
	return true
}

// refill fills the buckets with what has come in.
func (q *queue) refill(now time.Time) {
	for _, b := range q.buckets {
		b.refill(now)
	}
}

// flush sends what there is. At the end of an interval it sends a batch even if
// it is empty: the client must learn that there was nothing.
func (q *queue) flush() {
	if q.interval {
		q.end()
		return
	}
	if q.current.Count > 0 || len(q.current.containers) > 0 {
		q.push()
	}
}

// end sends the last batch of an interval. If it has to be dropped, an empty one,
// which takes no room, goes instead: without it the client would take the rows of
// two intervals for one.
func (q *queue) end() {
	for range 2 {
		if q.current.Count == 0 {
			q.current.Sequence = q.sequence
		}
		q.current.IntervalEnd = true
		if q.push() {
			return
		}
	}
}

// push says whether the batch found room.
func (q *queue) push() bool {
	if len(q.outlets) > 0 {
		q.share()
		return true
	}
	p := q.current
	q.charge(p)
	q.records.Store(q.sequence)
	// Behind a client that doesn't read, a batch with few records must not keep
	// the memory of a full one: the limit counts what batches hold.
	small := len(q.batches) >= cap(q.spare) && 2*len(p.Records) < cap(p.Records)
	if small {
		p = p.clone()
	}
	if !q.hand(p) {
		q.current.reset()
		return false
	}
	if small {
		q.current.reset()
		return true
	}
	select {
	case q.current = <-q.spare:
	default:
		q.current = &parcel{}
		q.current.Records = make([]byte, 0, batchBytes+batchBytes/4)
	}
	return true
}

// hand hands a batch to the reader, or drops it. It says whether there was room.
func (q *queue) hand(p *parcel) bool {
	size := p.size()
	if waiting := q.waiting.Load(); size == 0 || waiting == 0 || waiting+size <= q.limit {
		select {
		case q.batches <- p:
			q.waiting.Add(size)
			return true
		default:
		}
	}
	q.lost.Add(uint64(p.Count))
	if len(p.containers) > 0 {
		q.unexplained()
	}
	return false
}

// share hands the current batch to all outlets, which read the same bytes.
func (q *queue) share() {
	p := q.current.clone()
	q.current.reset()
	for _, o := range q.outlets {
		own := &parcel{containers: p.containers, shared: true}
		own.Records, own.Targets, own.Count, own.IntervalEnd = p.Records, p.Targets, p.Count, p.IntervalEnd
		own.Sequence = o.sequence
		o.sequence += uint64(p.Count)
		o.charge(own)
		o.records.Store(o.sequence)
		if !o.hand(own) && own.IntervalEnd {
			// See end.
			end := &parcel{shared: true}
			end.Sequence, end.IntervalEnd = o.sequence, true
			o.hand(end)
		}
	}
}

// charge takes a token for each record of a batch from each bucket, and leaves out the
// last records if there are too few.
func (q *queue) charge(p *parcel) {
	count := int64(p.Count)
	for i, b := range q.buckets {
		granted := b.take(count)
		for _, paid := range q.buckets[:i] {
			paid.giveBack(count - granted)
		}
		count = granted
	}
	left := p.Count - uint32(count)
	if left == 0 {
		return
	}
	q.throttled.Add(uint64(left))
	q.sequence -= uint64(left)
	p.Cut(uint32(count))
}

// recycle takes a batch back that has been sent. Sending has made its own copy
// of the bytes by then.
func (q *queue) recycle(p *parcel) {
	q.waiting.Add(-p.size())
	if p.shared || cap(p.Records) < batchBytes || cap(p.Records) > 2*batchBytes {
		return
	}
	p.reset()
	select {
	case q.spare <- p:
	default:
	}
}

// close tells the reader that nothing comes any more. The tracer has flushed.
func (q *queue) close() { close(q.batches) }
