// SPDX-License-Identifier: Apache-2.0

package print

import (
	"math/bits"

	"nodegadget.dev/pkg/event"
)

// The number of stars of the longest bar: the usual one, and what a narrow
// terminal has to hold.
const (
	mostStars  = 40
	leastStars = 8
)

// histogram draws records that count values in slots whose size doubles.
type histogram struct {
	labels []column
	slots  []column
	cache  originCache
	cell   cell
	// width is the terminal's, 0 for none.
	width int
	digit [20]byte
}

func newHistogram(chosen []choice, opts *Options) *histogram {
	h := &histogram{width: max(opts.Width, 0)}
	for _, c := range newColumns(chosen, opts.Location) {
		switch {
		case c.log2():
			h.slots = append(h.slots, c)
		case len(opts.Fields) > 0 || c.whether(timestamp) == 0:
			h.labels = append(h.labels, c)
		}
	}
	return h
}

func (h *histogram) append(dst []byte, origin, target *Origin, record []byte) []byte {
	h.cache.update(origin, target)
	for i := range h.slots {
		dst = h.appendTitle(dst, &h.slots[i], record)
		dst = h.appendSlots(dst, h.slots[i].column.Value(record))
		dst = append(dst, '\n')
	}
	return dst
}

// appendTitle writes name=value of the other columns, and where a record has
// several histograms, which one this is.
func (h *histogram) appendTitle(dst []byte, slots *column, record []byte) []byte {
	limit := h.width
	if limit == 0 {
		limit = -1
	}
	h.cell.reset(limit)
	if len(h.slots) > 1 {
		h.cell.text([]byte(slots.name))
	}
	for i := range h.labels {
		if h.cell.full {
			break
		}
		if len(h.cell.buf) > 0 {
			h.cell.plain([]byte{' '})
		}
		h.writeLabel(&h.labels[i], record)
	}
	if len(h.cell.buf) == 0 {
		return dst
	}
	dst = append(dst, h.cell.buf...)
	return append(dst, '\n')
}

func (h *histogram) writeLabel(c *column, record []byte) {
	h.cell.text([]byte(c.name))
	if h.cell.full {
		return
	}
	h.cell.plain([]byte{'='})
	switch {
	case h.cell.full:
	case c.column == nil:
		h.cell.item(h.cache.bytes[c.origin])
	case c.column.Kind == event.Text:
		if v := c.column.Value(record); v.Kind == event.Text {
			h.cell.item(v.Text)
			return
		}
		h.cell.plain([]byte{'-'})
	default:
		c.write(&h.cell, &h.cache, record)
	}
}

// appendSlots draws the slots from the first to the last that counted something.
func (h *histogram) appendSlots(dst []byte, v event.Value) []byte {
	first, last, most := -1, -1, uint64(0)
	for i := range v.Len() {
		if count := v.Slot(i); count > 0 {
			if first < 0 {
				first = i
			}
			last, most = i, max(most, count)
		}
	}
	if first < 0 {
		return dst
	}
	low, high := slotRange(last)
	widths := [3]int{h.digits(low), h.digits(high), h.digits(most)}
	stars := mostStars
	if h.width > 0 {
		stars = min(mostStars, max(leastStars, h.width-widths[0]-widths[1]-widths[2]-len(" ->  :  ||")))
	}
	for i := first; i <= last; i++ {
		low, high := slotRange(i)
		dst = h.appendRight(dst, low, widths[0])
		dst = h.appendRight(append(dst, " -> "...), high, widths[1])
		dst = h.appendRight(append(dst, " : "...), v.Slot(i), widths[2])
		dst = appendBar(append(dst, " |"...), v.Slot(i), most, stars)
		dst = append(dst, "|\n"...)
	}
	return dst
}

// appendBar writes count as stars of which most has all. What was counted at all
// has one.
func appendBar(dst []byte, count, most uint64, stars int) []byte {
	high, low := bits.Mul64(count, uint64(stars))
	n, rest := bits.Div64(high, low, most)
	if n == 0 && rest > 0 {
		n = 1
	}
	for range n {
		dst = append(dst, '*')
	}
	return appendSpaces(dst, stars-int(n))
}

func (h *histogram) digits(n uint64) int {
	return len(appendUint(h.digit[:0], n))
}

func (h *histogram) appendRight(dst []byte, n uint64, width int) []byte {
	digits := appendUint(h.digit[:0], n)
	dst = appendSpaces(dst, width-len(digits))
	return append(dst, digits...)
}
