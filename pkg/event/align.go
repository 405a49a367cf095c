// SPDX-License-Identifier: Apache-2.0

package event

import (
	"math"

	"nodegadget.dev/pkg/gadget"
)

// Align makes a schema for the records of another source, which may be that of
// another version of the gadget. It has exactly the columns of s, in the same order.
// A column that the other source doesn't have, or in which it means something else,
// is Null in each of its records.
func (s *Schema) Align(source gadget.Source, opts Options) *Schema {
	aligned := source
	aligned.Fields = make([]gadget.Field, 0, len(s.Source.Fields))
	for i := range s.Source.Fields {
		aligned.Fields = append(aligned.Fields, alike(&s.Source.Fields[i], source.Fields))
	}
	return NewSchema(aligned, opts)
}

// alike finds the field that makes the same columns as want. What it makes up if
// there is none lies behind the end of any record, where all is Null.
func alike(want *gadget.Field, fields []gadget.Field) gadget.Field {
	kind, _ := reader(want)
	for i := range fields {
		f := &fields[i]
		if f.Name != want.Name || f.Semantic != want.Semantic {
			continue
		}
		if k, _ := reader(f); k == kind {
			return *f
		}
	}
	absent := *want
	absent.Offset = math.MaxUint32
	return absent
}
