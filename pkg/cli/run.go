// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// runGadget runs a gadget and prints its records until stop ends, the timeout
// passes, enough events have come, or the gadget ends by itself.
func runGadget(ctx, stop context.Context, opts *runOptions, streams Streams) error {
	conn, closeAgent, err := connect(opts)
	if err != nil {
		return err
	}
	defer closeAgent()
	defer conn.Close()
	r, err := conn.Run(ctx, opts.start())
	if err != nil {
		return err
	}
	v, err := newView(r, opts, streams)
	if err != nil {
		return err
	}
	if opts.verbose {
		v.explain(streams.Err)
	}
	if opts.timeout > 0 {
		var cancel context.CancelFunc
		stop, cancel = context.WithTimeout(stop, opts.timeout)
		defer cancel()
	}
	// Stop is sent once, by whoever has a reason first.
	defer context.AfterFunc(stop, r.Stop)()
	if err := v.show(); err != nil {
		return err
	}
	return v.summary(streams.Err)
}

// view brings the messages of a run to a printer.
type view struct {
	run     *client.Run
	opts    *runOptions
	printer *print.Printer
	schema  *event.Schema
	origin  print.Origin
	shown   uint64
	// received counts all records that came, shown or not.
	received uint64
	rows     []print.Row
	order    []sortKey
	end      *wire.End
	// notices gets the agent's lines for the operator.
	notices io.Writer
}

func newView(r *client.Run, opts *runOptions, streams Streams) (*view, error) {
	schema := event.NewSchema(r.Spec.Source, event.Options{
		Arch: r.Header.GetNode().GetArch(), BootTime: time.Unix(0, r.Header.GetBootTime()),
	})
	v := &view{
		run: r, opts: opts, schema: schema, notices: streams.Err,
		origin: print.Origin{Node: r.Header.GetNode().GetName()},
	}
	width, color := terminal(streams.Out)
	var err error
	v.printer, err = print.New(streams.Out, schema, print.Options{Mode: opts.mode, Fields: opts.fields, Width: width, Color: color})
	if err != nil {
		return nil, err
	}
	if v.order, err = sortKeys(schema, opts.sort); err != nil {
		return nil, err
	}
	if r.Spec.Source.Kind == gadget.Events {
		// The header of the columns shows that the trace is on.
		return v, v.printer.Flush()
	}
	return v, nil
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

// explain says on which node, with which types and hooks the gadget runs.
func (v *view) explain(w io.Writer) {
	node := v.run.Header.GetNode()
	fmt.Fprintf(w, "node %s: %s\n", print.Escape(node.GetName()), print.Escape(node.GetBtf()))
	for _, choice := range v.run.Header.GetChoices() {
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

func (v *view) show() error {
	for {
		message, err := v.run.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := message.GetResponse().(type) {
		case *wire.RunResponse_Batch:
			if err := v.batch(m.Batch); err != nil {
				return err
			}
		case *wire.RunResponse_Notice:
			fmt.Fprintln(v.notices, print.Escape(m.Notice.GetText()))
		case *wire.RunResponse_End:
			v.end = m.End
		}
	}
}

func (v *view) batch(b *wire.Batch) error {
	v.received += uint64(b.GetCount())
	if v.run.Spec.Source.Kind != gadget.Events {
		return v.collect(b)
	}
	for _, record := range b.All() {
		if v.full() {
			break
		}
		v.printer.Record(&v.origin, record)
		v.count(1)
	}
	return v.printer.Flush()
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

// collect gathers the rows of an interval, which may take several batches.
func (v *view) collect(b *wire.Batch) error {
	for _, record := range b.All() {
		v.rows = append(v.rows, print.Row{Origin: &v.origin, Record: record})
	}
	if !b.GetIntervalEnd() {
		return nil
	}
	rows := v.rows
	v.rows = nil
	if v.full() {
		return nil
	}
	sortRows(rows, v.order)
	if v.opts.maxEntries > 0 && len(rows) > v.opts.maxEntries {
		rows = rows[:v.opts.maxEntries]
	}
	if v.opts.maxEvents > 0 {
		rows = rows[:min(uint64(len(rows)), v.opts.maxEvents-v.shown)]
	}
	v.count(len(rows))
	return v.printer.Interval(rows)
}

// summary is the line at the end. Losses fail the run only if that was asked for.
func (v *view) summary(w io.Writer) error {
	if v.end == nil {
		return errors.New("the agent ended the run without saying how it went")
	}
	loss := v.end.GetLoss()
	// What the agent sent or dropped is known to the record; the rest got lost between.
	var missing uint64
	if arrived := v.received + loss.GetQueue(); v.end.GetRecords() > arrived {
		missing = v.end.GetRecords() - arrived
	}
	lost := loss.GetKernel() + loss.GetQueue() + missing
	noun := "event"
	if v.run.Spec.Source.Kind != gadget.Events {
		noun = "row"
	}
	if v.shown != 1 {
		noun += "s"
	}
	line := fmt.Sprintf("%s %s, %s lost", thousands(v.shown), noun, thousands(lost))
	if lost > 0 {
		line += fmt.Sprintf(" (%s in the kernel's buffer, %s in the agent's queue", thousands(loss.GetKernel()), thousands(loss.GetQueue()))
		if missing > 0 {
			line += fmt.Sprintf(", %s on the way", thousands(missing))
		}
		line += ")"
	}
	if loss.GetSkipped() > 0 {
		line += fmt.Sprintf(", %s program runs left out by the kernel", thousands(loss.GetSkipped()))
	}
	fmt.Fprintln(w, line)
	if v.opts.failOnLoss && lost > 0 {
		return fmt.Errorf("%s events were lost", thousands(lost))
	}
	return nil
}

// thousands writes 12345 as 12,345.
func thousands(n uint64) string {
	digits := fmt.Sprint(n)
	var parts []string
	for len(digits) > 3 {
		parts = append(parts, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	parts = append(parts, digits)
	slices.Reverse(parts)
	return strings.Join(parts, ",")
}
