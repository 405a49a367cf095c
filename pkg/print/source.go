// SPDX-License-Identifier: Apache-2.0

package print

import "nodegadget.dev/pkg/event"

// Source is a schema whose records a Printer writes beside those of its own: that of
// another node, which has another clock, perhaps other names of system calls, and
// other offsets in records.
type Source struct {
	// columns are those of the printer's table, of this schema.
	columns []*event.Column
	// form is nil for a table, where all sources share the places of columns.
	form form
}

// Source makes the printer know another schema, which event.Schema.Align has made of
// the printer's own.
func (p *Printer) Source(schema *event.Schema) (*Source, error) {
	if p.form == nil {
		return &Source{}, nil
	}
	chosen, err := choose(schema, &p.opts)
	if err != nil {
		return nil, err
	}
	if p.table == nil {
		form, err := newForm(chosen, &p.opts)
		return &Source{form: form}, err
	}
	s := &Source{}
	for _, c := range chosen {
		s.columns = append(s.columns, c.column)
	}
	return s, nil
}

// Use says from which source the records come that follow; nil is the schema that
// the printer was made with.
func (p *Printer) Use(source *Source) {
	if source == nil {
		source = &p.own
	}
	switch {
	case p.form == nil:
	case p.table != nil:
		p.table.use(source)
	default:
		p.form = source.form
	}
}

// use makes the table read records of the source.
func (t *table) use(source *Source) {
	if t.source == source {
		return
	}
	t.source = source
	for i, c := range source.columns {
		t.columns[i].column = c
	}
}
