// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

// lossInterval is how often losses are told; the protocol promises two seconds.
const lossInterval = time.Second

// errUsage marks errors that are the client's.
var errUsage = errors.New("usage")

type usageError struct{ error }

func (usageError) Is(target error) bool { return target == errUsage }

// errUnsupported marks errors of an agent that isn't equipped for what is asked.
var errUnsupported = errors.New("unsupported")

type unsupportedError struct{ error }

func (unsupportedError) Is(target error) bool { return target == errUnsupported }

// run is one gadget that runs for one client.
type run struct {
	gadget string
	stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]
	tracer *tracer.Tracer
	queue  *queue
	intake *intake
	told   *wire.Loss
}

func (a *Agent) run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse], start *wire.Start) error {
	plan, err := a.prepare(start)
	if err != nil {
		return grpcError(err, start.GetVerbose())
	}
	types, err := a.kernelTypes(stream.Context(), plan.object)
	if err != nil {
		return grpcError(err, start.GetVerbose())
	}
	plan.opts.KernelTypes, plan.opts.Cache = types.Spec, a.types.get()
	t, err := tracer.Open(plan.object, plan.opts)
	if err != nil {
		return grpcError(err, start.GetVerbose())
	}
	defer t.Close()
	q := newQueue(a.opts.QueueSize, plan.filter, plan.object.Spec.Source.Kind != gadget.Events)
	in, done, err := a.openIntake(plan, t, q)
	if err != nil {
		return grpcError(err, start.GetVerbose())
	}
	defer done()
	r := &run{gadget: plan.object.Spec.Name, stream: stream, tracer: t, queue: q, intake: in, told: &wire.Loss{}}
	a.ledger.begin(r)
	defer a.ledger.end(r)
	if err := r.sendHeader(a.node(types.Source), &plan.object.Spec); err != nil {
		return err
	}
	return r.serve(a.stopping)
}

// plan is what a client's start asks for.
type plan struct {
	object        *gadget.Object
	filter        *event.Filter
	opts          tracer.Options
	selection     enrich.Selection
	maker, target *enrich.Identity
}

// prepare checks all that can be checked before anything is loaded.
func (a *Agent) prepare(start *wire.Start) (*plan, error) {
	if len(start.GetParams()) > wire.MaxParams {
		return nil, usageError{fmt.Errorf("%d parameters, at most %d are taken", len(start.GetParams()), wire.MaxParams)}
	}
	object, err := a.opts.Gadgets.Object(start.GetGadget())
	if err != nil {
		return nil, err
	}
	p := &plan{object: object, opts: tracer.Options{
		Params:       start.GetParams(),
		BufferSize:   int(min(start.GetBufferSize(), math.MaxInt)),
		PerfBuffer:   start.GetPerfBuffer(),
		Alternatives: start.GetAlternatives(),
		Interval:     time.Duration(start.GetInterval()),
	}}
	if p.opts.BufferSize == 0 {
		p.opts.BufferSize = a.opts.BufferSize
	}
	if err := p.opts.Check(&object.Spec); err != nil {
		return nil, usageError{err}
	}
	if err := a.planSelection(p, start.GetSelector()); err != nil {
		return nil, err
	}
	p.filter, err = compileFilter(object, start.GetFilter())
	return p, err
}

func compileFilter(object *gadget.Object, text string) (*event.Filter, error) {
	if text == "" {
		return nil, nil
	}
	boot, err := bootTime()
	if err != nil {
		return nil, err
	}
	schema := event.NewSchema(object.Spec.Source, event.Options{Arch: Arch(), BootTime: time.Unix(0, boot)})
	filter, err := event.CompileFilter(schema, text)
	if err != nil {
		return nil, usageError{err}
	}
	return filter, nil
}

func (r *run) sendHeader(node *wire.Node, spec *gadget.Spec) error {
	boot, err := bootTime()
	if err != nil {
		return grpcError(err, false)
	}
	header := &wire.Header{Protocol: wire.Current(), Node: node, Gadget: wire.FromSpec(spec), BootTime: boot}
	for _, c := range r.tracer.Choices() {
		choice := &wire.Choice{Group: c.Group, Alternative: c.Alternative}
		for _, rejected := range c.Rejected {
			choice.Rejected = append(choice.Rejected, rejected.String())
		}
		header.Choices = append(header.Choices, choice)
	}
	return r.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}})
}

// serve runs three goroutines until the client stops or leaves, the agent shuts
// down, or the gadget ends by itself: one reads the kernel's buffer, one waits for the client's stop,
// and this one sends.
func (r *run) serve(stopping context.Context) error {
	ctx, cancel := context.WithCancel(r.stream.Context())
	defer cancel()
	defer context.AfterFunc(stopping, cancel)()
	go func() {
		defer cancel()
		awaitStop(r.stream)
	}()
	traced := make(chan error, 1)
	go func() {
		traced <- r.tracer.Run(ctx, r.intake.handler())
		r.intake.end()
	}()
	sent := r.send()
	cancel()
	// The tracer must have ended before it is closed.
	if err := <-traced; err != nil {
		return grpcError(err, false)
	}
	if sent != nil {
		return sent
	}
	return r.sendEnd()
}

// awaitStop returns when the client asks for the end or is gone.
func awaitStop(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) {
	for {
		request, err := stream.Recv()
		if err != nil && !errors.Is(err, io.EOF) || request.GetStop() != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			return
		}
	}
}

// send sends batches until the queue is closed and empty, and losses as they grow.
func (r *run) send() error {
	ticker := time.NewTicker(lossInterval)
	defer ticker.Stop()
	for {
		select {
		case p, ok := <-r.queue.batches:
			if !ok {
				return nil
			}
			err := r.sendParcel(p)
			r.queue.recycle(p)
			if err != nil {
				return err
			}
		case <-ticker.C:
			if err := r.sendLoss(); err != nil {
				return err
			}
		}
	}
}

// silent is how long ago the reader should have looked for records, and has not.
func (r *run) silent(now time.Time) time.Duration { return r.intake.silent(now) }

// sendParcel sends a batch, and what it takes to read it before.
func (r *run) sendParcel(p *parcel) error {
	for _, message := range containerMessages(p.containers) {
		if err := r.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Containers{Containers: message}}); err != nil {
			return err
		}
	}
	if p.Count == 0 && !p.IntervalEnd {
		return nil
	}
	return r.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: &p.Batch}})
}

func (r *run) loss() (*wire.Loss, error) {
	lost, err := r.tracer.Lost()
	if err != nil {
		return nil, grpcError(err, false)
	}
	unresolved, withheld := r.intake.counts()
	return &wire.Loss{
		Kernel: lost.Records, Skipped: lost.Skipped, Queue: r.queue.lost.Load(), Unresolved: unresolved, Withheld: withheld,
	}, nil
}

func (r *run) sendLoss() error {
	loss, err := r.loss()
	if err != nil || proto.Equal(loss, r.told) {
		return err
	}
	r.told = loss
	return r.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Loss{Loss: loss}})
}

func (r *run) sendEnd() error {
	loss, err := r.loss()
	if err != nil {
		return err
	}
	end := &wire.End{Records: r.queue.sequence, Loss: loss}
	return r.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: end}})
}

// verboseError adds the verifier's whole log, cut to what a message may hold.
func verboseError(err error) string {
	var b strings.Builder
	b.WriteString(err.Error())
	for _, log := range verifierLogs(err) {
		b.WriteString("\n")
		b.WriteString(log)
	}
	const limit = wire.MaxMessage / 4
	text := b.String()
	if len(text) > limit {
		text = text[:limit/2] + "\n[…]\n" + text[len(text)-limit/2:]
	}
	return text
}

// verifierLogs collects the logs of all verifier errors in the tree.
func verifierLogs(err error) []string {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var logs []string
		for _, one := range many.Unwrap() {
			logs = append(logs, verifierLogs(one)...)
		}
		return logs
	}
	var verifier *ebpf.VerifierError
	if !errors.As(err, &verifier) {
		return nil
	}
	// Down to the error itself; there may be several further down.
	if inner := errors.Unwrap(err); errors.As(inner, &verifier) {
		return verifierLogs(inner)
	}
	return []string{fmt.Sprintf("%+v", verifier)}
}
