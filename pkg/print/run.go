// SPDX-License-Identifier: Apache-2.0

package print

import (
	"encoding/binary"
	"math/bits"

	"nodegadget.dev/pkg/event"
)

// run is a number of consecutive steps. If their values stand in the record in
// the same order, and only there, then the run remembers what it wrote last:
// events come in series of the same process, and what begins with the same bytes
// begins with the same text.
type run struct {
	steps []step
	// from and to are the bytes of the record that the values depend on; from is
	// equal to to where nothing is remembered.
	from, to int
	// seen are those bytes of the last record, text is what became of them, and
	// ends are the lengths of text after each step.
	seen, text []byte
	ends       []int
}

// runs divides steps into runs.
func runs(steps []step) []run {
	var all []run
	for _, s := range steps {
		last := len(all) - 1
		if last < 0 || !all[last].take(s) {
			all = append(all, newRun(s))
		}
	}
	return all
}

func newRun(s step) run {
	r := run{steps: []step{s}, ends: make([]int, 1)}
	if s.fixed {
		r.from, r.to = s.from, s.to
	}
	return r
}

// take adds a step to the run if it is of the same kind and stands behind the others.
func (r *run) take(s step) bool {
	remembers := r.from < r.to
	if s.fixed != remembers || s.fixed && (s.from < r.steps[len(r.steps)-1].from || s.to < r.to) {
		return false
	}
	r.steps = append(r.steps, s)
	r.ends = append(r.ends, 0)
	if s.fixed {
		r.to = s.to
	}
	return true
}

func (r *run) append(dst, record []byte, style style) []byte {
	if r.from == r.to || r.to > len(record) {
		for i := range r.steps {
			dst = r.steps[i].append(dst, record, style)
		}
		return dst
	}
	now := record[r.from:r.to]
	same := samePrefix(r.seen, now)
	if same < len(now) {
		r.renew(record, same, style)
		r.seen = append(r.seen[:0], now...)
	}
	return append(dst, r.text...)
}

// renew writes the steps anew that depend on more than the first same bytes.
func (r *run) renew(record []byte, same int, style style) {
	kept, length := 0, 0
	for kept < len(r.steps) && r.steps[kept].to-r.from <= same {
		length = r.ends[kept]
		kept++
	}
	r.text = r.text[:length]
	for i := kept; i < len(r.steps); i++ {
		r.text = r.steps[i].append(r.text, record, style)
		r.ends[i] = len(r.text)
	}
}

// samePrefix is the number of bytes that a and b begin with in common.
func samePrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}

// setRange says which bytes of the record the step's value depends on, if it
// depends on nothing else: not on the tail. A time differs anyway.
func (s *step) setRange(c *event.Column) {
	offset, size, ok := c.Place()
	if !ok || c.Kind == event.Time || c.Kind == event.Slots {
		return
	}
	s.fixed, s.from, s.to = true, offset, offset+size
}
