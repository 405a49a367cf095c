// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"iter"
)

// frame is the length of what precedes a record: its length and container reference.
const frame = 8

// AppendRecord appends a framed record to the records of a batch.
func AppendRecord(records []byte, container uint32, record []byte) []byte {
	records = binary.LittleEndian.AppendUint32(records, uint32(len(record)))
	records = binary.LittleEndian.AppendUint32(records, container)
	return append(records, record...)
}

// ErrFraming says that the records of a batch don't add up.
var ErrFraming = errors.New("batch is damaged: its records do not add up to its length")

// Check says whether the batch is whole: as many records as it claims.
func (b *Batch) Check() error {
	rest, count := b.GetRecords(), uint32(0)
	for len(rest) >= frame {
		length := uint64(binary.LittleEndian.Uint32(rest))
		if length > uint64(len(rest)-frame) {
			return ErrFraming
		}
		rest = rest[frame+length:]
		count++
	}
	if len(rest) != 0 || count != b.GetCount() {
		return ErrFraming
	}
	return nil
}

// All iterates over the container references and records of a batch, which must
// have passed Check. The bytes are the batch's own.
func (b *Batch) All() iter.Seq2[uint32, []byte] {
	return func(yield func(uint32, []byte) bool) {
		for rest := b.GetRecords(); len(rest) >= frame; {
			end := frame + int(binary.LittleEndian.Uint32(rest))
			if !yield(binary.LittleEndian.Uint32(rest[4:]), rest[frame:end:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// Cut leaves the first n records of a batch, which must have passed Check and have as many.
// It doesn't touch the bytes.
func (b *Batch) Cut(n uint32) {
	size, left := 0, n
	for _, record := range b.All() {
		if left == 0 {
			break
		}
		size += frame + len(record)
		left--
	}
	b.Records, b.Count = b.GetRecords()[:size], n
	if len(b.GetTargets()) > int(n) {
		b.Targets = b.GetTargets()[:n]
	}
}

// Keep returns a batch with the records for which keep is true, which is b itself if
// those are all. The batch must have passed Check.
func (b *Batch) Keep(keep func(record []byte) bool) *Batch {
	kept := &Batch{Sequence: b.GetSequence(), IntervalEnd: b.GetIntervalEnd()}
	n := 0
	for ref, record := range b.All() {
		if keep(record) {
			kept.Records = AppendRecord(kept.Records, ref, record)
			kept.Count++
			if len(b.GetTargets()) > n {
				kept.Targets = append(kept.Targets, b.GetTargets()[n])
			}
		}
		n++
	}
	if kept.GetCount() == b.GetCount() {
		return b
	}
	return kept
}
