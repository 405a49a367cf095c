// SPDX-License-Identifier: Apache-2.0

package print

import "time"

// The only escape sequences that a Printer writes, and only for Options.Color.
const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

// table writes records as lines of columns.
type table struct {
	columns []column
	// source is whose records the columns read at present.
	source *Source
	cache  originCache
	cell   cell
	color  bool
	// width is the terminal's, 0 for none.
	width int
	// edge is the cell that no line reaches, 0 for none. What was asked for, by name
	// or as Wide, is rather shown on a second line of the terminal than left out.
	edge int
	// natural are the columns' widths for the contents of all intervals so far.
	natural []int
}

func newTable(chosen []choice, opts *Options) *table {
	t := &table{columns: newColumns(chosen, opts.Location), color: opts.Color, width: max(opts.Width, 0)}
	if opts.Mode == Columns && len(opts.Fields) == 0 {
		t.edge = t.width
	}
	return t
}

func newColumns(chosen []choice, location *time.Location) []column {
	columns := make([]column, 0, len(chosen))
	for _, c := range chosen {
		columns = append(columns, newColumn(c, location))
	}
	return columns
}

func (t *table) appendHeader(dst []byte) []byte {
	if t.color {
		dst = append(dst, bold...)
	}
	dst = t.appendLine(dst, nil, true)
	if t.color {
		dst = append(dst, plain...)
	}
	return append(dst, '\n')
}

func (t *table) append(dst []byte, origin, target *Origin, record []byte) []byte {
	t.cache.update(origin, target)
	return append(t.appendLine(dst, record, false), '\n')
}

// appendLine writes the header, or a record's line. A number that is wider than its column
// pushes the ones after it to the right, as far as their texts need it.
func (t *table) appendLine(dst, record []byte, header bool) []byte {
	end, used := 0, 0
	for i := range t.columns {
		c := &t.columns[i]
		begin := end
		if i > 0 {
			begin++
			end++
		}
		end += c.width
		at := begin
		if i > 0 {
			at = max(begin, used+1)
		}
		if t.edge > 0 && at >= t.edge {
			break
		}
		t.cell.reset(t.limit(i, at, end))
		if header {
			t.cell.text(c.title)
		} else {
			c.write(&t.cell, &t.cache, record)
		}
		if len(t.cell.buf) == 0 {
			continue
		}
		if c.right {
			at = max(at, end-t.cell.used)
		}
		dst = appendSpaces(dst, at-used)
		used = at + t.cell.used
		dst = t.appendCell(dst, t.color && c.alarm && !header)
	}
	return dst
}

// limit is how wide the text of column i may be that begins at a cell and should
// end before another.
func (t *table) limit(i, at, end int) int {
	limit := max(end-at, 1)
	if t.columns[i].right || t.width == 0 && i == len(t.columns)-1 {
		limit = -1
	}
	if t.edge > 0 && (limit < 0 || limit > t.edge-at) {
		limit = t.edge - at
	}
	return limit
}

func (t *table) appendCell(dst []byte, alarm bool) []byte {
	if !alarm {
		return append(dst, t.cell.buf...)
	}
	dst = append(dst, red...)
	dst = append(dst, t.cell.buf...)
	return append(dst, plain...)
}

func appendSpaces(dst []byte, n int) []byte {
	for ; n > 0; n-- {
		dst = append(dst, ' ')
	}
	return dst
}
