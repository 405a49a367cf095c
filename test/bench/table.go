// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// table is a table in Markdown.
type table struct {
	header []string
	// texts is the number of columns, from the left, that are aligned there too.
	texts int
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.header)
	var rule []string
	for i := range t.header {
		if i == 0 || i < t.texts {
			rule = append(rule, "---")
			continue
		}
		rule = append(rule, "---:")
	}
	line(rule)
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}

// nothing stands where there is no value.
const nothing = "–"

// cell shows a spread as its median and, of several values, the extremes.
func (s spread) cell(format func(float64) string) string {
	if s.N == 0 {
		return nothing
	}
	median, low, high := format(s.Median), format(s.Min), format(s.Max)
	if low == median && high == median {
		return median
	}
	return fmt.Sprintf("%s (%s…%s)", median, low, high)
}

func whole(v float64) string {
	if v < 0 {
		return "-" + whole(-v)
	}
	return thousands(uint64(math.Round(v)))
}

func decimals(n int) func(float64) string {
	return func(v float64) string { return strconv.FormatFloat(v, 'f', n, 64) }
}

// percent never rounds up to 100: that is said only of all.
func percent(v float64) string {
	if v < 100 && v > 99.99 {
		v = 99.99
	}
	if v > 99 && v < 100 {
		return strconv.FormatFloat(v, 'f', 2, 64) + " %"
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + " %"
}

// thousands writes 12345 as 12,345.
func thousands(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
