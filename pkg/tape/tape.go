// SPDX-License-Identifier: Apache-2.0

package tape

import (
	"slices"
	"strings"
	"sync"
	"time"

	"nodegadget.dev/pkg/wire"
)

// What a tape retains if its options don't say.
const (
	DefaultRecords = 10_000
	DefaultBytes   = 4 << 20
)

// maxNotice bounds a notice in bytes.
const maxNotice = 4 << 10

// Options bound a tape.
type Options struct {
	// Records is how many of the last records are retained, 0 for DefaultRecords.
	Records int
	// Bytes bounds the memory for them and for the explanations of their references, 0
	// for DefaultBytes. The newest batch is kept even if it is larger.
	Bytes int
	// Explain says what a reference stands for that was explained once, but so long ago
	// that it was forgotten; nil if it isn't known any more. It must not use the tape.
	Explain func(ref uint32) *wire.Container
	// Clock says where records have their time; without one it is that of their arrival.
	Clock *Clock
}

// Clock says where a record has the time at which it was made.
type Clock struct {
	// Offset is that of the nanoseconds since boot, an u64, in a record.
	Offset int
	// Boot is the Unix time in nanoseconds of the node's boot.
	Boot int64
}

// Stats are what a tape holds.
type Stats struct {
	Records uint64
	Bytes   int
	// Oldest is when the oldest of the records arrived; the zero time if there is none.
	Oldest time.Time
}

// Tape retains the last records of a session. One goroutine writes at a time; all else
// may be done by many.
type Tape struct {
	opts Options

	mu      sync.Mutex
	entries ring
	// next is the number of the next record; records and bytes are what entries have.
	next    uint64
	records uint64
	bytes   int
	explanations
	// waiting are the readers that wait for news.
	waiting []*Reader
	closed  bool
	// refs is scratch space, free what the last entry that fell out was in, if no reader
	// has it: without readers, records cost no memory that would have to be collected.
	refs []uint32
	free []byte
}

func (o *Options) complete() {
	if o.Records <= 0 {
		o.Records = DefaultRecords
	}
	if o.Bytes <= 0 {
		o.Bytes = DefaultBytes
	}
}

// New makes an empty tape.
func New(opts Options) *Tape {
	opts.complete()
	return &Tape{opts: opts, explanations: explanations{known: map[uint32]*explanation{}}}
}

// Append puts a batch at the end of the tape, which numbers its records, and learns
// what references stand for. The batch must have passed wire.Batch.Check, and is
// copied; explanations are kept, and must not be changed any more. Append says whether
// all references in the batch are explained: if not, they have not been used for so long
// that they were forgotten, and Options.Explain doesn't know them either.
func (t *Tape) Append(batch *wire.Batch, containers []*wire.Container) (explained bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return true
	}
	for _, c := range containers {
		t.learn(c)
	}
	explained = t.collect(batch)
	if batch.GetCount() > 0 || batch.GetIntervalEnd() {
		e := newEntry(batch, t.refs, t.free)
		t.free = nil
		t.push(e)
	}
	t.forget()
	return explained
}

// collect puts the references that occur in the batch, each once, into t.refs, and
// notes that they are used.
func (t *Tape) collect(batch *wire.Batch) (explained bool) {
	t.refs = t.refs[:0]
	last := uint32(0)
	for ref := range batch.All() {
		if ref != last || len(t.refs) == 0 {
			t.refs = append(t.refs, ref)
		}
		last = ref
	}
	t.refs = append(t.refs, batch.GetTargets()...)
	slices.Sort(t.refs)
	t.refs = slices.Compact(t.refs)
	explained = true
	for _, ref := range t.refs {
		e := t.get(ref)
		t.use(e)
		if e.container == nil && ref != 0 && t.opts.Explain != nil {
			if c := t.opts.Explain(ref); c != nil {
				t.learn(c)
			}
		}
		explained = explained && (e.container != nil || ref == 0)
	}
	return explained
}

// Notice puts a line for the operator at the end of the tape.
func (t *Tape) Notice(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.push(entry{notice: strings.ToValidUTF8(text[:min(len(text), maxNotice)], "")})
	}
}

// Resize changes how much is retained, as Options say it.
func (t *Tape) Resize(records, bytes int) {
	limits := Options{Records: records, Bytes: bytes}
	limits.complete()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opts.Records, t.opts.Bytes = limits.Records, limits.Bytes
	t.trim()
}

// push adds an entry and lets go of the oldest ones.
func (t *Tape) push(e entry) {
	e.sequence, e.arrived = t.next, time.Now().UnixNano()
	t.next += uint64(e.count)
	t.records += uint64(e.count)
	t.bytes += e.size()
	t.entries.push(e)
	t.trim()
	t.wake()
}

// trim lets go of the oldest entries that aren't to be retained.
func (t *Tape) trim() {
	for t.entries.len() > 1 && t.full() {
		t.pop()
	}
}

// full says whether the oldest entry isn't to be retained. Of records there are as many
// as wanted also without it.
func (t *Tape) full() bool {
	oldest := t.entries.at(t.entries.first)
	return t.records-uint64(oldest.count) >= uint64(t.opts.Records) || t.bytes+t.used > t.opts.Bytes
}

func (t *Tape) pop() {
	e := t.entries.at(t.entries.first)
	for i := range e.refs() {
		t.release(e.ref(i))
	}
	t.records -= uint64(e.count)
	t.bytes -= e.size()
	if !e.lent {
		t.free = e.data
	}
	t.entries.pop()
}

// Close says that nothing comes any more: readers get what there is, and then the end.
func (t *Tape) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.wake()
}

// wake tells those who wait that there are news.
func (t *Tape) wake() {
	for i, r := range t.waiting {
		select {
		case r.news <- struct{}{}:
		default:
		}
		t.waiting[i] = nil
	}
	t.waiting = t.waiting[:0]
}

// oldest is the number of the first record that a reader may still begin with.
func (t *Tape) oldest() uint64 { return t.next - min(t.records, uint64(t.opts.Records)) }

// Stats says what the tape holds.
func (t *Tape) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{Records: t.next - t.oldest(), Bytes: t.bytes + t.used + t.spare}
	for n := t.entries.first; n < t.entries.end && s.Oldest.IsZero(); n++ {
		if e := t.entries.at(n); e.last() > t.oldest() {
			s.Oldest = time.Unix(0, e.arrived)
		}
	}
	return s
}
