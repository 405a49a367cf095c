// SPDX-License-Identifier: Apache-2.0

package tape

import (
	"encoding/binary"

	"nodegadget.dev/pkg/wire"
)

const (
	// frame is the length of what precedes a record in a batch: its length and reference.
	frame = 8
	// overhead is about what an entry takes beside its contents.
	overhead = 256
)

// entry is a batch, or a notice. Its bytes never change.
type entry struct {
	// data has the records as in wire.Batch, and from length on the references that
	// occur in the batch, each once.
	data    []byte
	length  int
	targets []uint32
	notice  string
	// sequence is the number of the first record, or of the next one if there is none.
	sequence uint64
	count    uint32
	end      bool
	// lent says that a reader has been given the bytes, and may still have them.
	lent bool
	// arrived is the Unix time in nanoseconds.
	arrived int64
}

// newEntry copies a batch in which the given references occur, into spare if that has
// the right size.
func newEntry(batch *wire.Batch, refs []uint32, spare []byte) entry {
	length := len(batch.GetRecords())
	size := length + 4*len(refs)
	if cap(spare) < size || cap(spare) > size+size/4 {
		spare = make([]byte, 0, size)
	}
	e := entry{
		data: append(spare[:0], batch.GetRecords()...), length: length,
		count: batch.GetCount(), end: batch.GetIntervalEnd(),
	}
	for _, ref := range refs {
		e.data = binary.LittleEndian.AppendUint32(e.data, ref)
	}
	if len(batch.GetTargets()) > 0 {
		e.targets = append(make([]uint32, 0, len(batch.GetTargets())), batch.GetTargets()...)
	}
	return e
}

func (e *entry) records() []byte { return e.data[:e.length:e.length] }

// refs are the number of references, and ref the one at i.
func (e *entry) refs() int        { return (len(e.data) - e.length) / 4 }
func (e *entry) ref(i int) uint32 { return binary.LittleEndian.Uint32(e.data[e.length+4*i:]) }

// last is the number behind that of the last record.
func (e *entry) last() uint64 { return e.sequence + uint64(e.count) }

func (e *entry) size() int { return cap(e.data) + 4*len(e.targets) + len(e.notice) + overhead }

// ring has the entries with the numbers from first to end-1. The zero value is empty.
type ring struct {
	// slots are a power of two; entry n is in slot n modulo that.
	slots      []entry
	first, end uint64
}

func (r *ring) len() int { return int(r.end - r.first) }

func (r *ring) at(n uint64) *entry { return &r.slots[n&uint64(len(r.slots)-1)] }

func (r *ring) push(e entry) {
	if r.len() == len(r.slots) {
		r.grow()
	}
	r.end++
	*r.at(r.end - 1) = e
}

func (r *ring) grow() {
	old := *r
	r.slots = make([]entry, max(2*len(old.slots), 16))
	for n := r.first; n < r.end; n++ {
		*r.at(n) = *old.at(n)
	}
}

// pop forgets the oldest entry.
func (r *ring) pop() {
	*r.at(r.first) = entry{}
	r.first++
}
