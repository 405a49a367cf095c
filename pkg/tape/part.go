// SPDX-License-Identifier: Apache-2.0

package tape

import (
	"encoding/binary"

	"nodegadget.dev/pkg/wire"
)

// part is a run of consecutive records of a batch: where it begins and ends in the
// batch's bytes, the index of its first record, and how many there are.
type part struct {
	from, to     int
	first, count uint32
}

// cut appends the longest parts of records, which wire.AppendRecord has framed, that
// have only records that keep says yes to.
func cut(parts []part, records []byte, keep func(i uint32, record []byte) bool) []part {
	at, i, joined := 0, uint32(0), false
	for _, record := range (&wire.Batch{Records: records}).All() {
		end := at + frame + len(record)
		switch kept := keep(i, record); {
		case kept && joined:
			last := &parts[len(parts)-1]
			last.to = end
			last.count++
		case kept:
			parts = append(parts, part{from: at, to: end, first: i, count: 1})
			joined = true
		default:
			joined = false
		}
		at = end
		i++
	}
	return parts
}

// choose appends the parts of an entry that the reader wants. The end of an interval
// that has been begun is wanted even if none of its last records are.
func (r *Reader) choose(e *entry, parts []part) []part {
	whole := part{to: e.length, count: e.count}
	since := r.since
	if r.at >= r.until {
		since = 0
	}
	skip := uint64(0)
	if r.next > e.sequence {
		skip = r.next - e.sequence
	}
	clock := r.tape.opts.Clock
	switch {
	case skip == 0 && since == 0:
		return append(parts, whole)
	case e.count == 0 && e.arrived > since:
		return append(parts, whole)
	case since == 0 || clock != nil || e.arrived > since:
		parts = cut(parts, e.records(), func(i uint32, record []byte) bool {
			return uint64(i) >= skip && (since == 0 || clock.of(record, e.arrived) > since)
		})
	}
	if len(parts) == 0 && e.end && r.open {
		parts = append(parts, part{from: e.length, to: e.length, first: e.count})
	}
	return parts
}

// of is when a record was made: its own time, but no later than its arrival.
func (c *Clock) of(record []byte, arrived int64) int64 {
	if c == nil || c.Offset < 0 || len(record) < c.Offset+8 {
		return arrived
	}
	return min(c.Boot+int64(binary.LittleEndian.Uint64(record[c.Offset:])), arrived)
}
