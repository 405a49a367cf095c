// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"sync/atomic"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/wire"
)

// A batch is sent when it has batchRecords or batchBytes: the knee beyond which
// larger messages don't make an event cheaper (docs/benchmarks.md).
const (
	batchRecords = 256
	batchBytes   = 32 << 10
	// A table's interval is sent in few messages, each within wire.MaxMessage.
	intervalBytes = 256 << 10
)

// queue makes batches of records and keeps a bounded number of bytes of them for
// a client. Its writer never waits: a batch that finds no room is dropped and counted.
type queue struct {
	filter   *event.Filter
	interval bool
	batches  chan *wire.Batch
	spare    chan *wire.Batch
	limit    int64
	waiting  atomic.Int64
	lost     atomic.Uint64
	current  *wire.Batch
	// sequence counts the records that passed the filter. Its writer is the
	// tracer's goroutine; others read it when that has ended.
	sequence uint64
}

func newQueue(size int, filter *event.Filter, interval bool) *queue {
	// No batch is smaller than one record, and few are: bytes are the real limit.
	slots := max(size/512, 1)
	q := &queue{
		filter: filter, interval: interval, limit: int64(size),
		batches: make(chan *wire.Batch, slots), spare: make(chan *wire.Batch, 64),
	}
	q.current = &wire.Batch{}
	return q
}

// add appends a record to the current batch.
func (q *queue) add(record []byte) {
	if q.filter != nil && !q.filter.Match(record) {
		return
	}
	b := q.current
	if b.Count == 0 {
		b.Sequence = q.sequence
	}
	b.Records = wire.AppendRecord(b.Records, 0, record)
	b.Count++
	q.sequence++
	if q.interval {
		if len(b.Records) >= intervalBytes {
			q.push()
		}
		return
	}
	if b.Count >= batchRecords || len(b.Records) >= batchBytes {
		q.push()
	}
}

// flush sends what there is. At the end of an interval it sends a batch even if
// it is empty: the client must learn that there was nothing.
func (q *queue) flush() {
	if q.interval {
		q.end()
		return
	}
	if q.current.Count > 0 {
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
	b := q.current
	size := int64(len(b.Records))
	if waiting := q.waiting.Load(); size > 0 && waiting > 0 && waiting+size > q.limit {
		q.drop(b)
		return false
	}
	// Behind a client that doesn't read, a batch with few records must not keep
	// the memory of a full one: the limit counts what batches hold.
	small := len(q.batches) >= cap(q.spare) && 2*len(b.Records) < cap(b.Records)
	if small {
		b = &wire.Batch{Sequence: b.Sequence, Count: b.Count, Records: bytes.Clone(b.Records), IntervalEnd: b.IntervalEnd}
	}
	select {
	case q.batches <- b:
		q.waiting.Add(size)
		if small {
			reset(q.current)
			return true
		}
		select {
		case q.current = <-q.spare:
		default:
			q.current = &wire.Batch{Records: make([]byte, 0, batchBytes+batchBytes/4)}
		}
		return true
	default:
		q.drop(q.current)
		return false
	}
}

func (q *queue) drop(b *wire.Batch) {
	q.lost.Add(uint64(b.Count))
	reset(b)
}

// recycle takes a batch back that has been sent. Sending has made its own copy
// of the bytes by then.
func (q *queue) recycle(b *wire.Batch) {
	q.waiting.Add(-int64(len(b.Records)))
	if cap(b.Records) < batchBytes || cap(b.Records) > 2*batchBytes {
		return
	}
	reset(b)
	select {
	case q.spare <- b:
	default:
	}
}

func reset(b *wire.Batch) {
	b.Records, b.Count, b.Sequence, b.IntervalEnd = b.Records[:0], 0, 0, false
}

// close tells the reader that nothing comes any more. The tracer has flushed.
func (q *queue) close() { close(q.batches) }
