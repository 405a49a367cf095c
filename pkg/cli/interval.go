// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"time"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// Rows of one interval are shown together when each live node has sent its own. A
// node that is late is waited for half an interval more; its rows come with the next.
const (
	// defaultInterval is the agents' for tables.
	defaultInterval = time.Second
	// snapshotPatience is how long a single snapshot waits for the last node.
	snapshotPatience = 10 * time.Second
)

// rounds shows what is complete, and makes sure that the rest doesn't wait for long.
func (v *view) rounds() error {
	if v.holding() {
		return nil
	}
	for {
		ready, waiting := false, false
		for _, n := range v.nodes {
			ready = ready || len(n.done) > 0
			waiting = waiting || n.live && len(n.done) == 0
		}
		switch {
		case !ready:
			v.late = nil
			return nil
		case waiting:
			if v.late == nil {
				v.late = time.After(v.patience())
			}
			return nil
		}
		if err := v.showInterval(); err != nil {
			return err
		}
	}
}

// patience is how long the first of an interval's rows wait for the others.
func (v *view) patience() time.Duration {
	switch {
	case v.opts.interval > 0:
		return v.opts.interval * 3 / 2
	case v.kind == gadget.Table:
		return defaultInterval * 3 / 2
	}
	return snapshotPatience
}

// overdue shows what there is of an interval that isn't waited for any longer.
func (v *view) overdue() error {
	v.late = nil
	if err := v.showInterval(); err != nil {
		return err
	}
	return v.rounds()
}

// showInterval shows the rows of one interval, of each node that has one.
func (v *view) showInterval() error {
	return v.showRows(take(v.inOrder()))
}

// take takes the rows of one interval from each of the nodes that has one.
func take(nodes []*nodeView) []entry {
	var rows []entry
	for _, n := range nodes {
		if len(n.done) > 0 {
			rows = append(rows, n.done[0]...)
			n.done = n.done[1:]
		}
	}
	return rows
}

func (v *view) showRows(rows []entry) error {
	if v.full() {
		return nil
	}
	sortRows(rows)
	if v.opts.maxEntries > 0 && len(rows) > v.opts.maxEntries {
		rows = rows[:v.opts.maxEntries]
	}
	if v.opts.maxEvents > 0 {
		rows = rows[:min(uint64(len(rows)), v.opts.maxEvents-v.shown)]
	}
	v.count(len(rows))
	shown := make([]print.Row, 0, len(rows))
	for _, r := range rows {
		shown = append(shown, r.Row)
	}
	return v.printer.Interval(shown)
}

// flush shows the rows that are left when the run has ended.
func (v *view) flush() error {
	if v.printer == nil {
		return nil
	}
	for _, n := range v.nodes {
		n.live = false
		if len(n.rows) > 0 {
			n.done, n.rows = append(n.done, n.rows), nil
		}
	}
	if err := v.replayed(); err != nil {
		return err
	}
	return v.rounds()
}
