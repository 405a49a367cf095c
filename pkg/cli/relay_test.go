// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"nodegadget.dev/pkg/cluster/clustertest"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// fakeRelay is a relay whose runs a test writes.
type fakeRelay struct {
	wire.UnimplementedRelayServer
	specs []*gadget.Spec
	nodes *wire.NodesResponse
	// play sends what comes in a run, after the request that began it.
	play func(s *relayStage) error

	mu       sync.Mutex
	requests []*wire.RunRequest
	asked    []string
}

// relayStage is a run of the fake relay. It numbers the messages.
type relayStage struct {
	stream   grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]
	request  *wire.RunRequest
	sequence uint64
	stopped  <-chan struct{}
}

func (f *fakeRelay) Nodes(context.Context, *wire.NodesRequest) (*wire.NodesResponse, error) {
	return f.nodes, nil
}

func (f *fakeRelay) Doctor(_ context.Context, request *wire.DoctorRequest) (*wire.NodesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = request.GetNodes()
	return f.nodes, nil
}

func (f *fakeRelay) Catalog(ctx context.Context, request *wire.CatalogRequest) (*wire.CatalogResponse, error) {
	return (&fake{specs: f.specs}).Catalog(ctx, request)
}

func (f *fakeRelay) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.requests = append(f.requests, first)
	f.mu.Unlock()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			request, err := stream.Recv()
			if err != nil || request.GetStop() != nil {
				return
			}
		}
	}()
	return f.play(&relayStage{stream: stream, request: first, sequence: first.GetResume().GetAfter(), stopped: stopped})
}

func (f *fakeRelay) started() *wire.Start {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[0].GetStart()
}

// callCluster runs the program against a cluster with the relay.
func callCluster(tb testing.TB, f *fakeRelay, args ...string) result {
	tb.Helper()
	return call(tb, append(args, "--kubeconfig", clustertest.New(tb, f).Kubeconfig)...)
}

// send sends messages about a node, 0 for none.
func (s *relayStage) send(node uint32, messages ...*wire.RunResponse) error {
	for _, message := range messages {
		s.sequence++
		message.Node, message.Sequence = node, s.sequence
		if err := s.stream.Send(message); err != nil {
			return err
		}
	}
	return nil
}

func sessionOf(nodes ...string) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Session{Session: &wire.Session{Id: "s", Protocol: wire.Current(), Nodes: nodes}}}
}

func headerOf(node string, boot int64, spec *gadget.Spec) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Header{Header: &wire.Header{
		Protocol: wire.Current(), Node: &wire.Node{Name: node, Arch: "x86_64", Btf: "kernel of " + node}, BootTime: boot, Gadget: wire.FromSpec(spec),
	}}}
}

func containersOf(containers ...*wire.Container) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Containers{Containers: &wire.Containers{Containers: containers}}}
}

// recordsOf is a batch of records with their references.
func recordsOf(end bool, records ...any) *wire.RunResponse {
	b := &wire.Batch{IntervalEnd: end}
	for i := 0; i < len(records); i += 2 {
		b.Records = wire.AppendRecord(b.Records, uint32(records[i].(int)), records[i+1].([]byte))
		b.Count++
	}
	return &wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}}
}

func goneOf(node, reason string) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Gone{Gone: &wire.Gone{Node: node, Reason: reason}}}
}

func endOf(records uint64, loss *wire.Loss) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Records: records, Loss: loss}}}
}
