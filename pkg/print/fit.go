// SPDX-License-Identifier: Apache-2.0

package print

import "cmp"

// fitStream fits the columns to the terminal once, before anything is known of
// what they will hold.
func (t *table) fitStream() {
	if t.width == 0 {
		return
	}
	room := t.room()
	if room < 0 {
		shrink(t.columns, -room)
		return
	}
	grow(t.columns, room)
}

// room is the number of the terminal's cells that the columns leave free.
func (t *table) room() int {
	room := t.width - max(len(t.columns)-1, 0)
	for i := range t.columns {
		room -= t.columns[i].width
	}
	return room
}

// grow shares cells evenly among the columns that may become wider.
func grow(columns []column, cells int) {
	for grown := true; grown && cells > 0; {
		grown = false
		for i := range columns {
			if c := &columns[i]; cells > 0 && c.width < c.most {
				c.width++
				cells--
				grown = true
			}
		}
	}
}

// shrink takes cells away, each from the column that is widest at the time.
func shrink(columns []column, cells int) {
	for ; cells > 0; cells-- {
		var widest *column
		for i := range columns {
			c := &columns[i]
			if c.width > c.least && (widest == nil || c.width > widest.width) {
				widest = c
			}
		}
		if widest == nil {
			return
		}
		widest.width--
	}
}

// fitRows makes the columns as wide as the widest content that any interval had
// so far, as far as the terminal allows: they don't jump back and forth.
func (t *table) fitRows(rows []Row, own *Source) {
	if t.natural == nil {
		t.natural = make([]int, len(t.columns))
		for i := range t.columns {
			t.cell.reset(longest)
			t.cell.text(t.columns[i].title)
			t.natural[i] = t.cell.used
		}
	}
	for _, row := range rows {
		t.use(cmp.Or(row.Source, own))
		t.cache.update(row.Origin, row.Target)
		for i := range t.columns {
			t.cell.reset(longest)
			t.columns[i].write(&t.cell, &t.cache, row.Record)
			t.natural[i] = max(t.natural[i], t.cell.used)
		}
	}
	for i := range t.columns {
		c := &t.columns[i]
		c.width, c.least = t.natural[i], t.natural[i]
		if c.flexible() {
			c.least = min(c.width, shortest)
		}
	}
	if t.width > 0 {
		shrink(t.columns, -t.room())
	}
}
