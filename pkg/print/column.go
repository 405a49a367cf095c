// SPDX-License-Identifier: Apache-2.0

package print

import (
	"strconv"
	"strings"
	"time"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

// column is a column of a table.
type column struct {
	choice
	title []byte
	right bool
	// alarm says that any text is bad news.
	alarm bool
	// width is the present number of cells; fitting keeps it between least and most.
	width, least, most int
	clock              clock
}

func newColumn(c choice, location *time.Location) column {
	col := column{
		choice: c, title: []byte(strings.ToUpper(c.name)),
		clock: clock{layout: "15:04:05.", location: location},
	}
	if c.column != nil {
		col.right = c.column.Right
		col.alarm = c.column.Semantic == gadget.Errno && !c.column.Raw
	}
	col.setWidths()
	return col
}

// The widths of texts that say nothing of theirs.
const (
	shortest = 8
	longest  = 200
	nameMost = 24
	addrMost = 39
)

// originWidths are the first widths of an Origin's texts, and the most that they use.
var originWidths = [len(originNames)][2]int{{16, 63}, {16, 63}, {30, 63}, {16, 63}, {14, 64}, {30, 128}}

// setWidths finds out how wide the column should be, and how far that may bend.
// Numbers and times keep their width: cut in half they would be wrong.
func (c *column) setWidths() {
	title := min(len(c.title), longest)
	if c.column == nil {
		c.width, c.most = originWidths[c.origin%targetOrigins][0], originWidths[c.origin%targetOrigins][1]
	} else {
		c.width = min(max(c.column.Width, 1), longest)
		c.most = c.width
	}
	if c.field != nil {
		author := c.field.Width > 0
		switch {
		case c.field.Kind == gadget.Tail:
			c.most = max(c.width, longest)
		case c.field.Kind == gadget.String:
			c.most = max(c.width, min(int(c.field.Size)-1, longest))
		case c.field.Kind == gadget.IP:
			c.most = max(c.width, addrMost)
		case c.field.Semantic == gadget.MountNS && !author:
			c.width = max(c.width, len("4026531840"))
		case c.field.Kind == gadget.Enum && !author:
			c.width = max(c.width, min(longestName(c.field.Values), nameMost))
		}
	}
	c.width = max(c.width, title)
	c.most = max(c.width, c.most)
	c.least = c.width
	if c.flexible() {
		c.least = min(c.width, shortest)
	}
}

// flexible says whether the column holds text, of which a part is better than none.
func (c *column) flexible() bool {
	return c.column == nil || c.column.Kind == event.Text || c.column.Kind == event.List || c.column.Kind == event.Slots
}

func longestName(values []gadget.EnumValue) int {
	n := 0
	for i := range values {
		n = max(n, len(values[i].Name))
	}
	return n
}

// write puts the column's value into an empty cell.
func (c *column) write(dst *cell, origins *originCache, record []byte) {
	if c.column == nil {
		dst.text(origins.bytes[c.origin])
		return
	}
	v := c.column.Value(record)
	switch v.Kind {
	case event.Int:
		dst.number(appendInt(dst.buf, v.Int()))
	case event.Uint:
		dst.number(appendMeaning(dst.buf, v.Uint(), c.column.Semantic))
	case event.Bool:
		dst.number(strconv.AppendBool(dst.buf, v.Uint() != 0))
	case event.Text:
		dst.text(v.Text)
	case event.Time:
		dst.number(c.clock.append(dst.buf, v.Int(), 3))
	case event.List:
		writeList(dst, v)
	case event.Slots:
		writeSlots(dst, v)
	default:
		dst.plain([]byte{'-'})
	}
}

func appendMeaning(dst []byte, n uint64, semantic gadget.Semantic) []byte {
	switch semantic {
	case gadget.Duration:
		return appendDuration(dst, n)
	case gadget.ByteCount:
		return appendBytes(dst, n)
	}
	return appendUint(dst, n)
}

func writeList(dst *cell, v event.Value) {
	first := true
	for item := range v.Items() {
		if dst.full {
			return
		}
		if !first {
			dst.plain([]byte{' '})
		}
		first = false
		dst.item(item)
	}
}

// writeSlots writes the counts up to the last that isn't zero.
func writeSlots(dst *cell, v event.Value) {
	end := v.Len()
	for end > 0 && v.Slot(end-1) == 0 {
		end--
	}
	for i := 0; i < end && !dst.full; i++ {
		if i > 0 {
			dst.plain([]byte{' '})
		}
		dst.number(appendUint(dst.buf, v.Slot(i)))
	}
}
