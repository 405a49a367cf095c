// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/wire"
)

// box numbers the messages of a session and keeps the last of them: those that have
// yet to be sent, and those that were, for a client whose connection broke. What is
// in it has a number and isn't dropped before it was sent. Nothing should be added to
// a full one; when the session ends, batches that find no room are dropped and counted.
type box struct {
	mu   sync.Mutex
	news *sync.Cond
	// limit is how many bytes are kept. Three quarters may be unsent: the rest is what
	// may be under way when a connection breaks, and is more than wire.Window.
	limit int
	// entries are numbered from first on. The messages of the oldest are forgotten;
	// their records are still known.
	entries   []entry
	first     uint64
	forgotten int
	// sent is the number of the last message that a stream was given.
	sent          uint64
	bytes, unsent int
	// records counts all that were to be sent, lost those that found no room.
	records, lost uint64
	// ending says that batches may be dropped.
	ending bool
	closed bool
	// err is how the stream ends when everything is sent.
	err error
	// withheld is how it ends without being sent another message.
	withheld error
}

type entry struct {
	message *wire.RunResponse
	size    int
	records uint32
}

// maxForgotten is how far back the number of records is remembered.
const maxForgotten = 16 << 10

func newBox(limit int) *box {
	b := &box{limit: limit, first: 1}
	b.news = sync.NewCond(&b.mu)
	return b
}

// add puts a message in. The box owns it from then on.
func (b *box) add(message *wire.RunResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := message.GetBatch()
	if batch != nil {
		batch.Sequence = b.records
		b.records += uint64(batch.GetCount())
	}
	if b.closed {
		return
	}
	e := entry{message: message, size: sizeOf(message), records: batch.GetCount()}
	switch {
	case batch != nil && b.ending && b.unsent > 0 && b.unsent+e.size > b.limit/4*3:
		b.lost += uint64(batch.GetCount())
		if !batch.GetIntervalEnd() {
			return
		}
		// Without its end the client would take two intervals of a table for one.
		e.message = &wire.RunResponse{Node: message.Node, Response: &wire.RunResponse_Batch{
			Batch: &wire.Batch{Sequence: b.records, IntervalEnd: true},
		}}
		e.size, e.records = sizeOf(e.message), 0
	case b.unsent+e.size > 2*b.limit:
		// Only an agent that makes up messages while the session ends gets here.
		b.closed, b.err = true, status.Error(codes.ResourceExhausted, "the client doesn't read, and there is no room for more messages")
		b.news.Broadcast()
		return
	}
	b.push(e)
}

func (b *box) push(e entry) {
	for b.bytes+e.size > b.limit && b.first+uint64(b.forgotten) <= b.sent {
		old := &b.entries[b.forgotten]
		b.bytes -= old.size
		old.message = nil
		b.forgotten++
	}
	if b.forgotten > maxForgotten {
		// Half of them at a time, so that the rest is not moved often.
		drop := b.forgotten - maxForgotten/2
		b.entries = append(b.entries[:0], b.entries[drop:]...)
		b.first += uint64(drop)
		b.forgotten -= drop
	}
	e.message.Sequence = b.first + uint64(len(b.entries))
	b.entries = append(b.entries, e)
	b.bytes += e.size
	b.unsent += e.size
	b.news.Broadcast()
}

// full says that nothing should be added now.
func (b *box) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unsent > b.limit/4*3 && !b.ending && !b.closed
}

// end says that from now on everything is added, if there is room for it.
func (b *box) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ending = true
}

// sizeOf is about what a message takes in memory.
func sizeOf(message *wire.RunResponse) int {
	const overhead = 256
	if batch := message.GetBatch(); batch != nil {
		return cap(batch.Records) + 4*cap(batch.Targets) + overhead
	}
	return proto.Size(message) + overhead
}

// close says that nothing comes any more, and how the stream then ends.
func (b *box) close(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed, b.err = true, err
	}
	b.news.Broadcast()
}

// withdraw says that nobody gets what is in the box, nor anything that comes.
func (b *box) withdraw(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withheld = err
	if !b.closed {
		b.closed, b.err = true, err
	}
	b.news.Broadcast()
}

// withdrawn says whether the client was denied what is in the box.
func (b *box) withdrawn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.withheld != nil
}

// next waits for the first message that has not been sent. When there is none and
// won't be, done is true. The context's end must be followed by wake.
func (b *box) next(ctx context.Context) (message *wire.RunResponse, done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		if b.withheld != nil {
			return nil, true, b.withheld
		}
		if b.sent+1-b.first < uint64(len(b.entries)) {
			e := b.entries[b.sent+1-b.first]
			b.sent++
			b.unsent -= e.size
			return e.message, false, nil
		}
		if b.closed {
			return nil, true, b.err
		}
		b.news.Wait()
	}
}

// wake lets next look at its context.
func (b *box) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.news.Broadcast()
}

// resume goes back to the message with number after, the last that a client has, or to
// the last one forgotten, and returns that number, how many messages lie between the
// two, and the records in them.
func (b *box) resume(after uint64) (from, messages, records uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if after > b.sent {
		return 0, 0, 0, status.Errorf(codes.InvalidArgument, "message %d has not been sent yet", after)
	}
	if after+1 < b.first {
		return 0, 0, 0, status.Errorf(codes.OutOfRange, "message %d is so old that nothing is known of those behind it", after)
	}
	from = max(after, b.first+uint64(b.forgotten)-1)
	for _, e := range b.entries[after+1-b.first : from+1-b.first] {
		messages++
		records += uint64(e.records)
	}
	// What is sent again must not be forgotten before it is.
	for _, e := range b.entries[from+1-b.first : b.sent+1-b.first] {
		b.unsent += e.size
	}
	b.sent = from
	return from, messages, records, nil
}

// counts returns how many records were put in, and how many of them found no room.
func (b *box) counts() (records, lost uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.records, b.lost
}

// finished says whether nothing comes any more.
func (b *box) finished() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}
