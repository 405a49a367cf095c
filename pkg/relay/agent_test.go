// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"google.golang.org/grpc"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// fakeAgent is an agent that does as its test wants.
type fakeAgent struct {
	wire.UnimplementedAgentServer
	node    string
	address string
	server  *grpc.Server
	served  chan error
	// play is what a run does; stop is closed when the client has asked for the end.
	play func(start *wire.Start, run *agentRun) error

	mu     sync.Mutex
	starts []*wire.Start
}

// agentRun is one run of a fake agent.
type agentRun struct {
	grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]
	stop chan struct{}
	// sequence counts records.
	sequence uint64
}

func (a *fakeAgent) Info(context.Context, *wire.InfoRequest) (*wire.InfoResponse, error) {
	return &wire.InfoResponse{Protocol: wire.Current(), AgentVersion: "v1", Node: &wire.Node{Name: a.node}}, nil
}

func (a *fakeAgent) Catalog(context.Context, *wire.CatalogRequest) (*wire.CatalogResponse, error) {
	return &wire.CatalogResponse{Gadgets: []*wire.Gadget{{Name: "trace_x"}, {Name: "trace_" + a.node}}}, nil
}

func (a *fakeAgent) Doctor(context.Context, *wire.DoctorRequest) (*wire.DoctorResponse, error) {
	return &wire.DoctorResponse{Findings: []*wire.Finding{{Problem: "no BTF on " + a.node}}}, nil
}

func (a *fakeAgent) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.starts = append(a.starts, first.GetStart())
	a.mu.Unlock()
	run := &agentRun{BidiStreamingServer: stream, stop: make(chan struct{})}
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil || request.GetStop() != nil {
				close(run.stop)
				return
			}
		}
	}()
	return a.play(first.GetStart(), run)
}

func (a *fakeAgent) started() []*wire.Start {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.starts
}

// eventHeader is that of a gadget whose records are their time and a number.
func eventHeader(boot int64) *wire.Header {
	return &wire.Header{
		Protocol: wire.Current(), BootTime: boot,
		Gadget: &wire.Gadget{Name: "trace_x", Source: &wire.Source{Kind: uint32(gadget.Events), Size: 16, Fields: []*wire.Field{
			{Name: "time", Size: 8, Kind: uint32(gadget.Uint), Semantic: string(gadget.Timestamp)},
			{Name: "n", Offset: 8, Size: 8, Kind: uint32(gadget.Uint)},
		}}},
	}
}

func (r *agentRun) header(header *wire.Header) error {
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}})
}

// begin sends the header of a node that has just booted.
func (r *agentRun) begin() error { return r.header(eventHeader(time.Now().UnixNano())) }

func record(at, n uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, at), n)
}

// event is a record of a container.
type event struct {
	ref    uint32
	record []byte
}

// events sends a batch.
func (r *agentRun) events(events ...event) error {
	b := &wire.Batch{Sequence: r.sequence, Count: uint32(len(events))}
	for _, e := range events {
		b.Records = wire.AppendRecord(b.Records, e.ref, e.record)
	}
	r.sequence += uint64(len(events))
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}})
}

// numbers sends count records, numbered on, of the container with the reference.
func (r *agentRun) numbers(ref uint32, count int) error {
	var events []event
	for i := range count {
		events = append(events, event{ref, record(0, r.sequence+uint64(i))})
	}
	return r.events(events...)
}

func (r *agentRun) explain(containers ...*wire.Container) error {
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_Containers{Containers: &wire.Containers{Containers: containers}}})
}

// end waits for the stop and ends in good order.
func (r *agentRun) end(loss *wire.Loss) error {
	<-r.stop
	if r.Context().Err() != nil {
		return r.Context().Err()
	}
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Records: r.sequence, Loss: loss}}})
}

// quiet begins, and ends when it is stopped.
func quiet(_ *wire.Start, run *agentRun) error {
	if err := run.begin(); err != nil {
		return err
	}
	return run.end(nil)
}
