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
	stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]
	member *member
	told   *wire.Loss
}

func (a *Agent) run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse], start *wire.Start) error {
	plan, err := a.prepare(start)
	if err != nil {
		return grpcError(err, start.GetVerbose())
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(a.stopping, cancel)()
	m, err := a.programs.join(ctx, plan)
	if err != nil {
		return grpcError(err, start.GetVerbose())
	}
	// What it has is released when the client learns of its end.
	defer m.abandon()
	header, err := a.header(m)
	if err != nil {
		return grpcError(err, false)
	}
	if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}}); err != nil {
		return err
	}
	if err := a.tellConfinement(start.GetGadget(), stream.Send); err != nil {
		return err
	}
	r := &run{stream: stream, member: m, told: &wire.Loss{}}
	return r.serve(ctx)
}

// plan is what a client's start asks for.
type plan struct {
	object        *gadget.Object
	filter        *event.Filter
	opts          tracer.Options
	selection     enrich.Selection
	maker, target *enrich.Identity
	// wants is equal in those who select and filter alike.
	wants string
	// queueSize bounds what waits for the reader, in bytes; 0 is the agent's default.
	queueSize int
	// buckets have a token for each record, or it is left out. Others may share them.
	buckets []*bucket
}

// interval is that of a table or snapshot.
func (p *plan) interval() time.Duration {
	if p.opts.Interval == 0 {
		return tracer.DefaultInterval
	}
	return p.opts.Interval
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
		Budget:       a.opts.CgroupBudget,
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
	if p.filter, err = compileFilter(object, start.GetFilter()); err != nil {
		return nil, err
	}
	p.wants, err = wants(start)
	return p, err
}

// wants says what a run wants to see of what the kernel records.
func wants(start *wire.Start) (string, error) {
	if start.GetSelector() == nil {
		return "all " + start.GetFilter(), nil
	}
	selector, err := proto.MarshalOptions{Deterministic: true}.Marshal(start.GetSelector())
	if err != nil {
		return "", fmt.Errorf("reading selector: %w", err)
	}
	return fmt.Sprintf("%x %s", selector, start.GetFilter()), nil
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

// header has what it takes to read a member's records.
func (a *Agent) header(m *member) (*wire.Header, error) {
	boot, err := bootTime()
	if err != nil {
		return nil, err
	}
	header := &wire.Header{
		Protocol: wire.Current(), Node: a.node(m.program.types), Gadget: wire.FromSpec(&m.plan.object.Spec), BootTime: boot,
	}
	for _, c := range m.program.source.Choices() {
		choice := &wire.Choice{Group: c.Group, Alternative: c.Alternative}
		for _, rejected := range c.Rejected {
			choice.Rejected = append(choice.Rejected, rejected.String())
		}
		header.Choices = append(header.Choices, choice)
	}
	return header, nil
}

// serve sends until the client stops or leaves, the agent shuts down, or the gadget ends
// by itself. Another goroutine waits for the client's stop, and the program's own fills
// the queue.
func (r *run) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.member.leave)()
	go func() {
		defer r.member.leave()
		awaitStop(r.stream)
	}()
	if err := r.send(); err != nil {
		return err
	}
	if err := r.member.failure; err != nil {
		return grpcError(err, false)
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
		case p, ok := <-r.member.queue.batches:
			if !ok {
				return nil
			}
			err := r.sendParcel(p)
			r.member.queue.recycle(p)
			if err != nil {
				return err
			}
		case <-ticker.C:
			if err := r.sendLoss(); err != nil {
				return err
			}
			if err := r.member.tellExcess(time.Now(), false, r.sendNotice); err != nil {
				return err
			}
		}
	}
}

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

func (r *run) sendLoss() error {
	loss, err := r.member.loss()
	if err != nil {
		return grpcError(err, false)
	}
	if proto.Equal(loss, r.told) {
		return nil
	}
	r.told = loss
	return r.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Loss{Loss: loss}})
}

func (r *run) sendNotice(text string) error {
	return r.stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: &wire.Notice{Text: text}}})
}

func (r *run) sendEnd() error {
	if err := r.member.tellExcess(time.Now(), true, r.sendNotice); err != nil {
		return err
	}
	loss, err := r.member.loss()
	if err != nil {
		return grpcError(err, false)
	}
	end := &wire.End{Records: r.member.records(), Loss: loss}
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
