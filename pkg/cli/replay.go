// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"time"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// replay is how far the view is with what nodes have retained of a trace session. As
// long as not all of it has come, nobody knows which of it is the last.
type replay struct {
	over bool
	// kept are the last records so far, oldest at next if there are as many as wanted.
	kept []keptEvent
	next int
}

type keptEvent struct {
	print.Row
	node *nodeView
}

// replaying says whether there may come more of what was retained.
func (v *view) replaying() bool { return v.opts.reads() && !v.replay.over }

// holding says whether what was retained is kept until all has come: events of which
// only the last are wanted, and readings, of which only the last of all nodes belong
// together for certain.
func (v *view) holding() bool {
	return v.replaying() && (v.opts.tail >= 0 || v.kind != gadget.Events)
}

// event shows a record, or keeps it until it is known to be among the last.
func (v *view) event(n *nodeView, row print.Row) {
	if v.holding() {
		v.keep(keptEvent{row, n})
		return
	}
	v.printer.Use(row.Source)
	v.printer.RecordOf(row.Origin, row.Target, row.Record)
	v.count(1)
}

func (v *view) keep(event keptEvent) {
	r := &v.replay
	switch {
	case int64(len(r.kept)) < v.opts.tail:
		r.kept = append(r.kept, event)
	case v.opts.tail > 0:
		r.kept[r.next] = event
		r.next = (r.next + 1) % len(r.kept)
	}
}

// replayed shows what was kept, when all that was retained has come.
func (v *view) replayed() error {
	if !v.replaying() {
		return nil
	}
	v.replay.over = true
	if v.printer == nil {
		return nil
	}
	if v.kind != gadget.Events {
		return v.showReadings()
	}
	events := slices.Concat(v.replay.kept[v.replay.next:], v.replay.kept[:v.replay.next])
	v.replay = replay{over: true}
	for _, e := range events {
		if v.full() {
			break
		}
		v.event(e.node, e.Row)
		v.passed(e.node, e.Record)
	}
	v.announced = true
	return v.printer.Flush()
}

// showReadings shows what was retained of a table. Nodes have retained different
// numbers of readings; the last ones of all belong together.
func (v *view) showReadings() error {
	nodes := v.inOrder()
	longest := 0
	for _, n := range nodes {
		longest = max(longest, len(n.done))
	}
	for ; longest > 0; longest-- {
		var having []*nodeView
		for _, n := range nodes {
			if len(n.done) == longest {
				having = append(having, n)
			}
		}
		rows := take(having)
		if v.opts.tail >= 0 && int64(longest) > v.opts.tail {
			continue
		}
		if err := v.showRows(rows); err != nil {
			return err
		}
		v.run.Shown(time.Now())
	}
	return nil
}

// restart forgets what had come of a replay that is begun anew.
func (v *view) restart() {
	if v.holding() {
		v.replay = replay{}
		for _, n := range v.nodes {
			n.rows, n.done = nil, nil
		}
	}
}

// matches says whether a record passes the reader's own filter.
func (n *nodeView) matches(record []byte) bool { return n.filter == nil || n.filter.Match(record) }

// filterBy compiles the reader's own filter for the node's records.
func (v *view) filterBy(n *nodeView, schema *event.Schema) error {
	n.clock = nil
	for _, c := range schema.Columns {
		if c.Semantic == gadget.Timestamp && c.Kind == event.Time && n.clock == nil {
			n.clock = c
		}
	}
	// In a run nodes apply it.
	if !v.opts.reads() || v.opts.filter == "" {
		return nil
	}
	var err error
	n.filter, err = event.CompileFilter(schema, v.opts.filter)
	return err
}

// passed remembers until when everything was shown: up to the record, by its node's
// clock. Rows of tables have no time but that of their arrival.
func (v *view) passed(n *nodeView, record []byte) {
	switch {
	case v.opts.attach == nil || v.holding():
	case n.clock != nil:
		v.run.Shown(time.Unix(0, n.clock.Value(record).Int()))
	default:
		v.run.Shown(time.Now())
	}
}
