// SPDX-License-Identifier: Apache-2.0

package tape

import (
	"context"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/wire"
)

// explanationsBytes is about how large a message of explanations becomes: a pod may
// have many labels.
const explanationsBytes = wire.MaxMessage / 8

// From says where a reader begins. The zero value is the oldest retained record.
type From struct {
	// Since leaves out retained records that were not made after this Unix time in
	// nanoseconds.
	Since int64
	// Tail leaves out all but so many of the last retained records; 0 leaves out none.
	Tail uint64
	// Live leaves out all that is retained.
	Live bool
}

// Reader reads a tape. Next must not be called by several goroutines at a time.
type Reader struct {
	tape *Tape
	news chan struct{}
	// at is the number of the next entry, next that of the next record, both guarded by
	// the tape's lock, as missed is.
	at, next, missed uint64
	// until is the entry at which what was retained at the beginning has been passed;
	// replayed says that this has been told.
	until    uint64
	replayed bool
	since    int64
	// told are the versions of the explanations that the reader has.
	told map[uint32]uint64
	// pending is what is to be read before the next entry.
	pending []*wire.RunResponse
	parts   []part
	// open says that the interval has begun to which the next batch belongs.
	open bool
}

// Read begins to read the tape.
func (t *Tape) Read(from From) *Reader {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &Reader{
		tape: t, news: make(chan struct{}, 1), told: map[uint32]uint64{}, since: from.Since,
		at: t.entries.first, next: t.oldest(), until: t.entries.end,
	}
	if from.Tail > 0 && from.Tail < t.next-r.next {
		r.next = t.next - from.Tail
	}
	if from.Live {
		r.at, r.next = t.entries.end, t.next
	}
	if r.next > t.next-t.records {
		// What has no records goes with the ones before it.
		for r.at < t.entries.end && t.entries.at(r.at).last() <= r.next {
			r.at++
		}
	}
	return r
}

// Next waits for the next message: explanations of references before their first use,
// batches, notices, and once, when all that was retained at the beginning has been
// read, Replayed. Messages are the reader's own, but not the bytes and explanations in
// them, which must not be changed. The error is io.EOF behind the last message of a
// closed tape, or the context's if there is nothing to read and it has ended: what
// there is can still be read then.
func (r *Reader) Next(ctx context.Context) (*wire.RunResponse, error) {
	for len(r.pending) == 0 {
		if err := r.advance(ctx); err != nil {
			return nil, err
		}
	}
	message := r.pending[0]
	r.pending[0] = nil
	if r.pending = r.pending[1:]; len(r.pending) == 0 {
		r.pending = nil
	}
	return message, nil
}

// Missed counts the records that fell out of the tape before the reader came to them.
// It may be called at any time.
func (r *Reader) Missed() uint64 {
	r.tape.mu.Lock()
	defer r.tape.mu.Unlock()
	return r.missed + r.behind()
}

// Unread counts the records that the reader has not read: those that it has missed, and
// those that are on the tape.
func (r *Reader) Unread() uint64 {
	r.tape.mu.Lock()
	defer r.tape.mu.Unlock()
	return r.missed + r.tape.next - r.next
}

// behind is how many records have fallen out since the reader last read.
func (r *Reader) behind() uint64 {
	first := r.tape.next - r.tape.records
	return max(first, r.next) - r.next
}

// advance makes pending messages of what is next, which may be none of its records.
func (r *Reader) advance(ctx context.Context) error {
	t := r.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		r.missed += r.behind()
		r.next += r.behind()
		r.at = max(r.at, t.entries.first)
		switch {
		case !r.replayed && r.at >= r.until:
			r.replayed = true
			r.add(&wire.RunResponse{Response: &wire.RunResponse_Replayed{Replayed: &wire.Replayed{}}})
			return nil
		case r.at < t.entries.end:
			r.read(t.entries.at(r.at))
			r.at++
			return nil
		case t.closed:
			return io.EOF
		case ctx.Err() != nil:
			return ctx.Err()
		}
		r.wait(ctx)
	}
}

// wait waits for news, or for the context's end, without the tape's lock.
func (r *Reader) wait(ctx context.Context) {
	t := r.tape
	t.waiting = append(t.waiting, r)
	t.mu.Unlock()
	ended := false
	select {
	case <-r.news:
	case <-ctx.Done():
		ended = true
	}
	t.mu.Lock()
	if !ended {
		return
	}
	if i := slices.Index(t.waiting, r); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		return
	}
	// It was woken at the same moment.
	<-r.news
}

func (r *Reader) add(message *wire.RunResponse) { r.pending = append(r.pending, message) }

// read makes messages of an entry.
func (r *Reader) read(e *entry) {
	if e.notice != "" {
		if r.at < r.until && e.arrived <= r.since {
			return
		}
		r.add(&wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: &wire.Notice{Text: e.notice}}})
		return
	}
	r.parts = r.choose(e, r.parts[:0])
	r.next = e.last()
	if len(r.parts) == 0 {
		return
	}
	e.lent = true
	r.explain(e)
	for i, p := range r.parts {
		batch := &wire.Batch{Sequence: e.sequence + uint64(p.first), Count: p.count, Records: e.data[p.from:p.to:p.to]}
		if len(e.targets) > 0 {
			batch.Targets = e.targets[p.first:][:p.count:p.count]
		}
		batch.IntervalEnd = e.end && i == len(r.parts)-1
		r.open = !batch.IntervalEnd
		r.add(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: batch}})
	}
}

// explain adds what the references in a batch stand for, unless the reader knows.
func (r *Reader) explain(e *entry) {
	var message *wire.Containers
	size := 0
	for i := range e.refs() {
		known := r.tape.known[e.ref(i)]
		if known.container == nil || known.version == r.told[known.ref] {
			continue
		}
		if message == nil || size >= explanationsBytes {
			message, size = &wire.Containers{}, 0
			r.add(&wire.RunResponse{Response: &wire.RunResponse_Containers{Containers: message}})
		}
		message.Containers = append(message.Containers, known.container)
		size += proto.Size(known.container)
		r.told[known.ref] = known.version
	}
	r.prune()
}

// prune forgets what the reader knows of references that the tape has forgotten.
func (r *Reader) prune() {
	if len(r.told) < 1024 || len(r.told) < 2*len(r.tape.known) {
		return
	}
	for ref := range r.told {
		if r.tape.known[ref] == nil {
			delete(r.told, ref)
		}
	}
}
