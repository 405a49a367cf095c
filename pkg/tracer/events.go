// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/perf"
	"github.com/cilium/ebpf/ringbuf"
)

// runEvents reads the buffer. The kernel wakes the reader only when much is
// waiting; otherwise it looks every flushInterval.
func (t *Tracer) runEvents(ctx context.Context, h Handler) error {
	stop := false
	for {
		// A deadline in the past makes next hand out what is there and not wait.
		deadline := time.Now()
		if !stop {
			deadline = deadline.Add(flushInterval)
		}
		empty, err := t.drain(deadline, h.Record)
		if err != nil {
			h.Flush()
			return fmt.Errorf("reading events: %w", err)
		}
		h.Flush()
		switch {
		case stop && empty:
			return nil
		case !stop && ctx.Err() != nil:
			// Once more after the programs are gone: now the buffer only empties.
			t.detach()
			stop = true
		}
	}
}

// buffer is the reader of a ring or perf buffer.
type buffer struct {
	// next returns the next record. It waits for one until the deadline, and then
	// returns what is in the buffer before it returns os.ErrDeadlineExceeded.
	next  func(deadline time.Time) ([]byte, error)
	close func() error
	// waiting is how many bytes of a ring are not read yet; nil for a perf buffer.
	waiting func() int
}

// drain hands out records until the buffer is empty, or so many that it is time to flush.
func (t *Tracer) drain(deadline time.Time, each func([]byte)) (empty bool, err error) {
	for range flushRecords {
		record, err := t.buffer.next(deadline)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.at.drains++
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if len(record) > 0 {
			t.at.bytes += uint64(len(record))
			each(record)
		}
	}
	return false, nil
}

// Mark is a place in the events that Run hands out.
type Mark struct {
	// drains counts how often the buffer was found empty, bytes what was in it.
	drains, bytes uint64
	// waiting is how many bytes of a ring were not read yet, headers included.
	waiting uint64
}

// Mark says how far Run has come. Only the handler's functions may ask.
func (t *Tracer) Mark() Mark {
	mark := t.at
	if t.buffer != nil && t.buffer.waiting != nil {
		mark.waiting = uint64(t.buffer.waiting())
	}
	return mark
}

// Passed says whether all events have been handed out that waited in the buffer at a
// mark, which must be one of a Flush. Only the handler's functions may ask.
func (t *Tracer) Passed(m Mark) bool {
	// A ring is read in the order in which it was written. The perf buffers of single
	// processors have no common order.
	return t.at.drains > m.drains || !t.usePerf && t.at.bytes-m.bytes >= m.waiting
}

// openBuffer must come before programs are attached: a perf buffer takes nothing
// before it has a reader.
func (t *Tracer) openBuffer() (*buffer, error) {
	if t.usePerf {
		return openPerf(t.maps[t.source.Map], int(t.size))
	}
	reader, err := ringbuf.NewReader(t.maps[t.source.Map])
	if err != nil {
		return nil, fmt.Errorf("opening ring buffer: %w", err)
	}
	var record ringbuf.Record
	b := newBuffer(reader, func() ([]byte, error) {
		err := reader.ReadInto(&record)
		return record.RawSample, err
	})
	b.waiting = reader.AvailableBytes
	return b, nil
}

// newBuffer makes a buffer of a library's reader. It sets a deadline only when
// that changes: most records come without waiting.
func newBuffer(reader interface {
	SetDeadline(deadline time.Time)
	Close() error
}, read func() ([]byte, error),
) *buffer {
	var set time.Time
	next := func(deadline time.Time) ([]byte, error) {
		if deadline != set {
			reader.SetDeadline(deadline)
			set = deadline
		}
		return read()
	}
	return &buffer{next: next, close: reader.Close}
}

// openPerf splits size among the CPUs. What a full buffer loses is counted by
// the program that could not write; the reader's own count is the same loss again.
func openPerf(m *ebpf.Map, size int) (*buffer, error) {
	perCPU := max(size/runtime.NumCPU(), os.Getpagesize())
	reader, err := perf.NewReaderWithOptions(m, perCPU, perf.ReaderOptions{Watermark: perCPU / perfWatermarkShare})
	if err != nil {
		return nil, fmt.Errorf("opening perf buffer: %w", err)
	}
	var record perf.Record
	return newBuffer(reader, func() ([]byte, error) {
		err := reader.ReadInto(&record)
		return record.RawSample, err
	}), nil
}
