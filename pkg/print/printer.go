// SPDX-License-Identifier: Apache-2.0

package print

import (
	"fmt"
	"io"
	"time"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

// Options say what is shown, and how. The zero value shows the default columns
// as a table for a file.
type Options struct {
	Mode Mode
	// Fields are the names of the columns to show, in this order: any of the
	// schema's, or of OriginNames. None means the mode's own choice. JSON and YAML have the origin and the
	// timestamp always, so Fields picks from the others there.
	Fields []string
	// Kubernetes puts node, namespace, pod and container before the columns that the
	// mode chooses, and adds where the target of a record is.
	Kubernetes bool
	// Width is the number of the terminal's columns, 0 for what isn't a terminal.
	Width int
	// Color marks headers and errors.
	Color bool
	// Location is where times of day are shown; nil means time.Local. JSON and YAML
	// are in UTC.
	Location *time.Location
}

// Row is one record of an interval.
type Row struct {
	// Source is whose schema the record has; nil for the printer's own.
	Source *Source
	Origin *Origin
	// Target is where the second process is that the record is about, nil for none.
	Target *Origin
	Record []byte
}

// form writes records in one mode.
type form interface {
	append(dst []byte, origin, target *Origin, record []byte) []byte
}

// keptBuffer is what a printer keeps between batches: one batch of unusually
// large records shouldn't cost memory for the rest of the run.
const keptBuffer = 1 << 20

// Printer writes the records of one schema. It isn't safe for concurrent use.
type Printer struct {
	w    io.Writer
	opts Options
	// own is the schema that the printer was made with.
	own  Source
	form form
	buf  []byte
	// table is form where that is one, else nil.
	table *table
	// headless means that the next Record has to begin with the table's header.
	headless  bool
	intervals int
}

// New makes a printer of schema's records. It writes nothing before the first
// Flush or Interval.
func New(w io.Writer, schema *event.Schema, opts Options) (*Printer, error) {
	if opts.Location == nil {
		opts.Location = time.Local
	}
	p := &Printer{w: w, opts: opts}
	if opts.Mode == None {
		return p, nil
	}
	chosen, err := choose(schema, &opts)
	if err != nil {
		return nil, err
	}
	if p.form, err = newForm(chosen, &p.opts); err != nil {
		return nil, err
	}
	p.own.form = p.form
	if p.table, _ = p.form.(*table); p.table != nil {
		for _, c := range chosen {
			p.own.columns = append(p.own.columns, c.column)
		}
		p.table.source, p.headless = &p.own, true
		if schema.Source.Kind == gadget.Events {
			p.begin()
		}
	}
	return p, nil
}

func newForm(chosen []choice, opts *Options) (form, error) {
	switch {
	case opts.Mode == JSON:
		return newObject(&jsonGrammar, chosen)
	case opts.Mode == YAML:
		return newObject(&yamlGrammar, chosen)
	case hasHistogram(chosen):
		return newHistogram(chosen, opts), nil
	}
	return newTable(chosen, opts), nil
}

// begin writes the header of a stream, whose columns keep their places.
func (p *Printer) begin() {
	p.headless = false
	p.table.fitStream()
	p.buf = p.table.appendHeader(p.buf)
}

// Record appends a record of a stream to what the next Flush writes. It keeps
// neither origin nor record.
func (p *Printer) Record(origin *Origin, record []byte) { p.RecordOf(origin, nil, record) }

// RecordOf is Record for a record that is about a second process, in another container
// perhaps.
func (p *Printer) RecordOf(origin, target *Origin, record []byte) {
	if p.form == nil {
		return
	}
	if p.headless {
		p.begin()
	}
	p.buf = p.form.append(p.buf, origin, target, record)
}

// Flush writes what has been recorded, in one Write. Before the first record of
// an event source that is the header alone.
func (p *Printer) Flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.w.Write(p.buf)
	if p.buf = p.buf[:0]; cap(p.buf) > keptBuffer {
		p.buf = nil
	}
	if err != nil {
		return fmt.Errorf("writing events: %w", err)
	}
	return nil
}

// Interval writes the rows of one interval of a table or snapshot, which the
// caller has sorted and limited.
func (p *Printer) Interval(rows []Row) error {
	if p.form == nil {
		return nil
	}
	if p.table != nil {
		if p.intervals > 0 {
			p.buf = append(p.buf, '\n')
		}
		p.headless = false
		p.table.fitRows(rows, &p.own)
		p.buf = p.table.appendHeader(p.buf)
	}
	p.intervals++
	for i := range rows {
		p.Use(rows[i].Source)
		p.buf = p.form.append(p.buf, rows[i].Origin, rows[i].Target, rows[i].Record)
	}
	return p.Flush()
}
