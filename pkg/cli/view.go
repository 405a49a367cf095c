// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/term"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// view brings the messages of a run to a printer.
type view struct {
	run     *client.Run
	opts    *runOptions
	streams Streams
	// printer and schema are made when the first node has begun. Records of other
	// nodes are read by their own schemas, which have the same columns.
	printer *print.Printer
	schema  *event.Schema
	kind    gadget.SourceKind
	// announced says that the header of the columns has been printed.
	announced bool
	session   string
	nodes     map[*client.Node]*nodeView
	origins   origins
	// puzzled says that a record has come of which nobody has said whose it is.
	puzzled bool
	shown   uint64
	// late fires when an interval isn't waited for any longer.
	late   <-chan time.Time
	replay replay
}

// nodeView is what the view knows of a node.
type nodeView struct {
	*client.Node
	source *print.Source
	order  []sortKey
	// filter is that of who reads a trace session, clock where its records have their time.
	filter *event.Filter
	clock  *event.Column
	// live is whether something may still come from the node.
	live bool
	// rows are those of the interval under way, done those of whole intervals.
	rows []entry
	done [][]entry
}

func newView(r *client.Run, opts *runOptions, streams Streams) *view {
	v := &view{run: r, opts: opts, streams: streams, kind: opts.spec.Source.Kind, nodes: map[*client.Node]*nodeView{}}
	v.origins.reset()
	return v
}

// explain takes explanations of references. A relay's name the node of each
// container; an agent's are about its own.
func (v *view) explain(containers *wire.Containers, n *nodeView) {
	for _, c := range containers.GetContainers() {
		of := n
		if node := v.run.Node(c.GetNode()); node != nil {
			of = v.node(node)
		}
		if of != nil {
			v.origins.explain(c, of)
		}
	}
}

// node is the view of a node, nil for none.
func (v *view) node(node *client.Node) *nodeView {
	if node == nil {
		return nil
	}
	n := v.nodes[node]
	if n == nil {
		n = &nodeView{Node: node, live: true}
		v.nodes[node] = n
	}
	return n
}

// begin takes a session: a new one, one that goes on, or one in place of another.
func (v *view) begin(session *wire.Session) {
	if session.GetId() != v.session {
		switch {
		case v.session == "":
		case v.opts.attach != nil:
			v.restart()
			v.notice(nil, "the relay has forgotten what was read, which goes on behind what was shown")
		default:
			v.notice(nil, "the relay has forgotten the run, which begins anew: what happened in the meantime is missing")
		}
		// References are those of a session.
		v.origins.reset()
	} else if missed := session.GetMissedRecords(); missed > 0 {
		v.notice(nil, fmt.Sprintf("connected again, %s records are missing", thousands(missed)))
	}
	v.session = session.GetId()
	for _, node := range v.run.Nodes() {
		v.node(node).live = node.Live()
	}
}

// join takes a node's header, which may only be recalled after a broken connection.
func (v *view) join(n *nodeView, recalled bool) error {
	n.live = n.Live()
	if !recalled || n.source == nil {
		if n.Vanished {
			v.notice(n, "back")
		}
		if v.opts.verbose {
			describe(v.streams.Err, n.Header)
		}
		n.rows = nil
	}
	options := event.Options{Arch: n.Header.GetNode().GetArch(), BootTime: time.Unix(0, n.Header.GetBootTime())}
	if v.printer == nil {
		if err := v.open(n.Spec.Source); err != nil {
			return err
		}
	}
	schema := v.schema.Align(n.Spec.Source, options)
	var err error
	if n.source, err = v.printer.Source(schema); err != nil {
		return err
	}
	if n.order, err = sortKeys(schema, v.opts.sort); err != nil {
		return err
	}
	if err := v.filterBy(n, schema); err != nil {
		return err
	}
	return v.announce(false)
}

// open makes the printer. Its columns are those of the first node's gadget, which
// may be newer than the one that this program knows; or this program's, if it is
// the older one and lacks what was asked for.
func (v *view) open(first gadget.Source) error {
	err := v.openWith(first)
	if err != nil && v.openWith(v.opts.spec.Source) == nil {
		return nil
	}
	return err
}

func (v *view) openWith(source gadget.Source) error {
	schema := event.NewSchema(source, event.Options{})
	if _, err := sortKeys(schema, v.opts.sort); err != nil {
		return err
	}
	width, color := terminal(v.streams.Out)
	printer, err := print.New(v.streams.Out, schema, print.Options{
		Mode: v.opts.mode, Fields: v.opts.fields, Kubernetes: v.opts.selector != nil || v.opts.attach != nil, Width: width, Color: color,
	})
	if err == nil {
		v.printer, v.schema, v.kind = printer, schema, source.Kind
	}
	return err
}

// announce prints the header of the columns, which shows that the trace is on: when
// all nodes that are to begin have begun, or when there is something to show.
func (v *view) announce(now bool) error {
	if v.announced || v.printer == nil || v.kind != gadget.Events {
		return nil
	}
	for _, n := range v.nodes {
		if n.live && n.Header == nil && !now {
			return nil
		}
	}
	v.announced = true
	return v.printer.Flush()
}

// terminal says how wide out is, 0 if it is none, and whether to use colours.
func terminal(out io.Writer) (width int, color bool) {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// describe says on which node, with which types and hooks the gadget runs.
func describe(w io.Writer, header *wire.Header) {
	node := header.GetNode()
	fmt.Fprintf(w, "node %s: %s\n", print.Escape(node.GetName()), print.Escape(node.GetBtf()))
	for _, choice := range header.GetChoices() {
		alternative := choice.GetAlternative()
		if alternative == "" {
			alternative = "nothing"
		}
		fmt.Fprintf(w, "hook %s: %s\n", print.Escape(choice.GetGroup()), print.Escape(alternative))
		for _, rejected := range choice.GetRejected() {
			fmt.Fprintf(w, "  not %s\n", print.Escape(rejected))
		}
	}
}

// notice is a line for the operator, about a node or about the run.
func (v *view) notice(n *nodeView, text string) {
	if n != nil && v.session != "" {
		text = fmt.Sprintf("node %s: %s", n.Name, text)
	}
	fmt.Fprintln(v.streams.Err, print.Escape(text))
}

// leave takes that a node is gone. Where none ever begins, there is nothing to wait for.
func (v *view) leave(gone *wire.Gone) error {
	hopeless := true
	for _, node := range v.run.Nodes() {
		if node.Name == gone.GetNode() {
			n := v.node(node)
			v.notice(n, "gone: "+gone.GetReason())
			n.live = false
		}
		hopeless = hopeless && node.Header == nil && !node.Live()
	}
	// Which nodes have something of a trace session, the relay knows.
	if hopeless && !v.opts.reads() {
		v.run.Stop()
	}
	if err := v.announce(false); err != nil {
		return err
	}
	return v.rounds()
}

// finish takes that a node's part has come to its end.
func (v *view) finish(n *nodeView) error {
	if n == nil {
		return nil
	}
	n.live = false
	return v.rounds()
}

// batch shows the records of a batch, or keeps them until their interval is over. A
// relay's batch of events has records of many nodes: each record's origin says which.
func (v *view) batch(n *nodeView, b *wire.Batch) error {
	var i int
	for ref, record := range b.All() {
		target := v.target(b, i, n)
		i++
		from := v.origins.of(ref, n)
		if from == nil || from.node.source == nil {
			if !v.puzzled {
				v.puzzled = true
				v.notice(nil, "records are left out: the relay hasn't said of which node they are")
			}
			continue
		}
		if v.full() && v.kind == gadget.Events {
			break
		}
		if i == int(b.GetCount()) {
			v.passed(from.node, record)
		}
		if from.node.matches(record) {
			v.record(from, target, record)
		}
	}
	switch {
	case v.printer == nil:
		return nil
	case v.kind == gadget.Events:
		v.announced = true
		return v.printer.Flush()
	case n != nil && b.GetIntervalEnd():
		n.done, n.rows = append(n.done, n.rows), nil
		return v.rounds()
	}
	return nil
}

// record shows an event, or keeps a row until its interval is over.
func (v *view) record(from *origin, target *print.Origin, record []byte) {
	row := print.Row{Source: from.node.source, Origin: &from.Origin, Target: target, Record: record}
	if v.kind == gadget.Events {
		v.event(from.node, row)
		return
	}
	from.node.rows = append(from.node.rows, entry{Row: row, order: from.node.order})
}

// target is where the second process of a batch's record is, nil for none.
func (v *view) target(b *wire.Batch, i int, n *nodeView) *print.Origin {
	if i >= len(b.GetTargets()) {
		return nil
	}
	if of := v.origins.of(b.GetTargets()[i], n); of != nil {
		return &of.Origin
	}
	return nil
}

// full says whether --max-events have been shown.
func (v *view) full() bool { return v.opts.maxEvents > 0 && v.shown >= v.opts.maxEvents }

func (v *view) count(n int) {
	wasFull := v.full()
	v.shown += uint64(n)
	if v.full() && !wasFull {
		v.run.Stop()
	}
}

// inOrder are the nodes by name.
func (v *view) inOrder() []*nodeView {
	nodes := make([]*nodeView, 0, len(v.nodes))
	for _, node := range v.run.Nodes() {
		nodes = append(nodes, v.node(node))
	}
	slices.SortStableFunc(nodes, func(a, b *nodeView) int { return cmp.Compare(a.Name, b.Name) })
	return nodes
}
