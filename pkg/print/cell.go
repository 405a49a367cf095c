// SPDX-License-Identifier: Apache-2.0

package print

import (
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// terminal says how many cells a rune takes. The default condition would look at
// the environment.
var terminal = &runewidth.Condition{StrictEmojiNeutral: true}

const ellipsis = "…"

// cell collects the text of one table cell, and ends it with … where it would
// become wider than its limit.
type cell struct {
	buf  []byte
	used int
	// limit is the number of terminal cells, negative for any.
	limit int
	// cut and cutUsed are buf's length and used where … would go.
	cut, cutUsed int
	full         bool
}

// reset empties the cell. A limit below one is one: something was left out.
func (c *cell) reset(limit int) {
	if limit == 0 {
		limit = 1
	}
	*c = cell{buf: c.buf[:0], limit: limit}
}

// took counts the cells of what was appended last.
func (c *cell) took(cells int) {
	c.used += cells
	switch {
	case c.limit < 0 || c.used < c.limit:
		c.cut, c.cutUsed = len(c.buf), c.used
	case c.used > c.limit:
		c.buf = append(c.buf[:c.cut], ellipsis...)
		c.used, c.full = c.cutUsed+1, true
	}
}

// number counts what an Append function has made of buf: one cell a rune.
func (c *cell) number(buf []byte) {
	from := len(c.buf)
	c.buf = buf
	cells := utf8.RuneCount(buf[from:])
	if c.limit < 0 || c.used+cells < c.limit {
		c.took(cells)
		return
	}
	c.buf = buf[:from]
	for from < len(buf) && !c.full {
		_, size := utf8.DecodeRune(buf[from:])
		c.buf = append(c.buf, buf[from:from+size]...)
		from += size
		c.took(1)
	}
}

// text appends a text, escaped.
func (c *cell) text(text []byte) {
	for len(text) > 0 && !c.full {
		if n := plainPrefix(text, shown); n > 0 {
			c.plain(text[:n])
			text = text[n:]
			continue
		}
		from := len(c.buf)
		var size int
		var escaped bool
		c.buf, size, escaped = appendRune(c.buf, text, shown)
		cells := len(c.buf) - from
		if !escaped {
			r, _ := utf8.DecodeRune(text)
			cells = terminal.RuneWidth(r)
		}
		c.took(cells)
		text = text[size:]
	}
}

// plain appends printable ASCII.
func (c *cell) plain(text []byte) {
	if fit := c.limit - 1 - c.used; c.limit > 0 && len(text) > fit {
		if fit > 0 {
			c.buf = append(c.buf, text[:fit]...)
			c.took(fit)
			text = text[fit:]
		}
		for i := 0; i < len(text) && !c.full; i++ {
			c.buf = append(c.buf, text[i])
			c.took(1)
		}
		return
	}
	c.buf = append(c.buf, text...)
	c.took(len(text))
}

// item appends a text that stands among others, separated by spaces: with quotes
// where it would otherwise look like none, or like several.
func (c *cell) item(text []byte) {
	if !ambiguous(text) {
		c.text(text)
		return
	}
	c.plain([]byte{'"'})
	for len(text) > 0 && !c.full {
		n := 0
		for n < len(text) && text[n] != '"' && text[n] != '\\' {
			n++
		}
		c.text(text[:n])
		if n < len(text) {
			c.plain([]byte{'\\', text[n]})
			n++
		}
		text = text[n:]
	}
	if !c.full {
		c.plain([]byte{'"'})
	}
}

func ambiguous(text []byte) bool {
	for _, b := range text {
		if b == ' ' || b >= '\t' && b <= '\r' || b == '"' || b == '\'' {
			return true
		}
	}
	return len(text) == 0
}
