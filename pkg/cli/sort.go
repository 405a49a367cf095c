// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/print"
)

// sortKey is one field of --sort.
type sortKey struct {
	column     *event.Column
	descending bool
}

func sortKeys(schema *event.Schema, fields []string) ([]sortKey, error) {
	var keys []sortKey
	for _, field := range fields {
		name, descending := strings.CutPrefix(field, "-")
		column, err := schema.Column(name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, sortKey{column: column, descending: descending})
	}
	return keys, nil
}

// entry is a row of an interval, with the keys by which rows of its node are sorted.
type entry struct {
	print.Row
	order []sortKey
}

// sortRows sorts rows of any number of nodes. Their keys are columns of the same
// names and kinds, each of its own node's schema.
func sortRows(rows []entry) {
	slices.SortStableFunc(rows, func(a, b entry) int {
		for i, key := range a.order {
			sign := compare(key.column, a.Record, b.order[i].column, b.Record)
			if key.descending {
				sign = -sign
			}
			if sign != 0 {
				return sign
			}
		}
		return 0
	})
}

// compare orders numbers by size, texts by bytes, and slots by their sum.
func compare(ac *event.Column, a []byte, bc *event.Column, b []byte) int {
	v := ac.Value(a)
	// The column's kind, not v's: where a record has no value, it is 0 or empty.
	switch ac.Kind {
	case event.Int, event.Time:
		return cmp.Compare(v.Int(), bc.Value(b).Int())
	case event.Uint, event.Bool:
		return cmp.Compare(v.Uint(), bc.Value(b).Uint())
	case event.Slots:
		return cmp.Compare(sum(v), sum(bc.Value(b)))
	}
	// A column's text lives until the column is read again.
	text := bytes.Clone(v.Text)
	return bytes.Compare(text, bc.Value(b).Text)
}

func sum(v event.Value) uint64 {
	var total uint64
	for i := range v.Len() {
		total += v.Slot(i)
	}
	return total
}
