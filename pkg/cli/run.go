// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// runGadget runs a gadget and prints its records until stop ends, the timeout
// passes, enough events have come, or the gadget ends by itself.
func runGadget(ctx, stop context.Context, opts *runOptions, streams Streams) error {
	// A cluster may take its time: until the run has begun, an interrupt ends it at once.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interruptible := func() bool { return true }
	if opts.clustered() {
		interruptible = context.AfterFunc(stop, cancel)
	}
	if opts.asSession() {
		own, err := opts.own(ctx)
		if err != nil {
			return err
		}
		defer func() {
			if err := own.remove(ctx); err != nil && opts.verbose {
				fmt.Fprintln(streams.Err, print.Escape(err.Error()))
			}
		}()
	}
	conn, closeConn, err := opts.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn()
	r, err := conn.Run(ctx, opts.start())
	if !interruptible() {
		return nil
	}
	if err != nil {
		return err
	}
	v := newView(r, opts, streams)
	if opts.timeout > 0 {
		var cancel context.CancelFunc
		stop, cancel = context.WithTimeout(stop, opts.timeout)
		defer cancel()
	}
	// Stop is sent once, by whoever has a reason first.
	defer context.AfterFunc(stop, r.Stop)()
	return v.summary(v.show())
}

// arrival is a message of the run, or why there are no more.
type arrival struct {
	message *wire.RunResponse
	err     error
}

// show brings the run's messages to the printer until the run ends. While it waits
// for a message, the time for the rows of an interval may run out.
func (v *view) show() error {
	// There is room for one, so that the receiver ends when nobody wants more.
	arrivals, handled := make(chan arrival, 1), make(chan struct{})
	defer close(handled)
	go func() {
		for {
			message, err := v.run.Next()
			arrivals <- arrival{message, err}
			// Next changes the nodes: not while somebody looks at them.
			if _, more := <-handled; !more {
				return
			}
		}
	}()
	for {
		select {
		case a := <-arrivals:
			if errors.Is(a.err, io.EOF) {
				return v.flush()
			}
			if a.err != nil {
				return errors.Join(a.err, v.flush())
			}
			if err := v.handle(a.message); err != nil {
				return err
			}
			handled <- struct{}{}
		case <-v.late:
			if err := v.overdue(); err != nil {
				return err
			}
		}
	}
}

func (v *view) handle(message *wire.RunResponse) error {
	n := v.node(v.run.Node(message.GetNode()))
	switch m := message.GetResponse().(type) {
	case *wire.RunResponse_Session:
		v.begin(m.Session)
	case *wire.RunResponse_Header:
		return v.join(n, v.run.Recalled(message))
	case *wire.RunResponse_Containers:
		v.explain(m.Containers, n)
	case *wire.RunResponse_Batch:
		return v.batch(n, m.Batch)
	case *wire.RunResponse_Notice:
		v.notice(n, m.Notice.GetText())
	case *wire.RunResponse_Gone:
		return v.leave(m.Gone)
	case *wire.RunResponse_Replayed:
		return v.replayed()
	case *wire.RunResponse_End:
		return v.finish(n)
	}
	return nil
}
