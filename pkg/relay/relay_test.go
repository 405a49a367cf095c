// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// TestRecordsOfAllNodesComeByTime: two nodes, whose boots lie an hour apart, take
// turns at making records.
func TestRecordsOfAllNodesComeByTime(t *testing.T) {
	w := newWorld(t, Options{Window: 2 * time.Second})
	now := uint64(time.Now().UnixNano())
	boot := map[string]uint64{"node1": now - uint64(time.Hour), "node2": now - 2*uint64(time.Hour)}
	play := func(node string, odd uint64) func(*wire.Start, *agentRun) error {
		return func(_ *wire.Start, run *agentRun) error {
			if err := run.header(eventHeader(int64(boot[node]))); err != nil {
				return err
			}
			if err := run.explain(&wire.Container{Ref: 7, Name: "web-" + node}); err != nil {
				return err
			}
			var events []event
			for i := range uint64(300) {
				at := now + (2*i+odd)*1000
				events = append(events, event{uint32(7 * (i % 2)), record(at-boot[node], 2*i+odd)})
			}
			for part := range slices.Chunk(events, 100) {
				if err := run.events(part...); err != nil {
					return err
				}
			}
			return run.end(&wire.Loss{Kernel: 3, Queue: 4})
		}
	}
	w.agent("node1", play("node1", 0))
	w.agent("node2", play("node2", 1))
	v := w.start("admin", &wire.Start{})
	require.Equal(t, []string{"node1", "node2"}, v.session().GetNodes())
	v.records(600)
	v.stop()
	end := v.rest()
	require.EqualValues(t, 600, end.GetRecords())
	require.EqualValues(t, 6, end.GetLoss().GetKernel())
	require.EqualValues(t, 8, end.GetLoss().GetQueue())
	require.Zero(t, end.GetLoss().GetRelay())

	records := recordsOf(v.got)
	require.Len(t, records, 600)
	for i, r := range records {
		require.EqualValues(t, i, r.number, "records of both nodes alternate")
		require.EqualValues(t, i%2+1, r.node)
		want := &wire.Container{Kind: wire.Container_HOST}
		if i/2%2 == 1 {
			want = &wire.Container{Name: []string{"web-node1", "web-node2"}[i%2]}
		}
		require.Equal(t, want.GetKind(), r.container.GetKind())
		require.Equal(t, want.GetName(), r.container.GetName())
	}
	sequence, next := uint64(0), uint64(0)
	for i, m := range v.got {
		require.EqualValues(t, i+1, m.GetSequence())
		if b := m.GetBatch(); b != nil {
			require.Zero(t, m.GetNode())
			require.LessOrEqual(t, b.GetCount(), uint32(batchRecords))
			require.Equal(t, next, b.GetSequence())
			next += uint64(b.GetCount())
		}
		sequence = m.GetSequence()
	}
	require.EqualValues(t, len(v.got), sequence)
}

// TestTablesComeByNode: their rows have no time, and an interval's end is the node's.
func TestTablesComeByNode(t *testing.T) {
	w := newWorld(t, Options{})
	play := func(_ *wire.Start, run *agentRun) error {
		header := eventHeader(0)
		header.Gadget.Source.Kind = uint32(gadget.Table)
		if err := run.header(header); err != nil {
			return err
		}
		for range 3 {
			for _, end := range []bool{false, true} {
				b := &wire.Batch{Sequence: run.sequence, Count: 1, Records: wire.AppendRecord(nil, 0, record(1, run.sequence)), IntervalEnd: end}
				run.sequence++
				if err := run.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}}); err != nil {
					return err
				}
			}
		}
		return run.end(nil)
	}
	w.agent("node1", play)
	w.agent("node2", play)
	v := w.start("admin", &wire.Start{})
	v.records(12)
	v.stop()
	require.EqualValues(t, 12, v.rest().GetRecords())
	ends := map[uint32][]bool{}
	for _, m := range v.got {
		if b := m.GetBatch(); b != nil {
			ends[m.GetNode()] = append(ends[m.GetNode()], b.GetIntervalEnd())
		}
	}
	want := []bool{false, true, false, true, false, true}
	require.Equal(t, map[uint32][]bool{1: want, 2: want}, ends)
	for _, r := range recordsOf(v.got) {
		require.Equal(t, wire.Container_HOST, r.container.GetKind())
	}
}

// TestTargetsAreMergedAndMapped: one node's records name second processes, the other's don't.
func TestTargetsAreMergedAndMapped(t *testing.T) {
	w := newWorld(t, Options{})
	w.agent("node1", func(_ *wire.Start, run *agentRun) error {
		if err := run.begin(); err != nil {
			return err
		}
		if err := run.numbers(1, 2); err != nil {
			return err
		}
		return run.end(nil)
	})
	w.agent("node2", func(_ *wire.Start, run *agentRun) error {
		if err := run.begin(); err != nil {
			return err
		}
		if err := run.explain(&wire.Container{Ref: 1, Name: "killer"}, &wire.Container{Ref: 2, Name: "victim"}); err != nil {
			return err
		}
		b := &wire.Batch{Count: 2, Targets: []uint32{2, 0}}
		for i := range uint64(2) {
			b.Records = wire.AppendRecord(b.Records, 1, record(0, 10+i))
		}
		run.sequence = 2
		if err := run.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}}); err != nil {
			return err
		}
		return run.end(nil)
	})
	v := w.start("admin", &wire.Start{})
	v.records(4)
	v.stop()
	v.rest()
	for _, r := range recordsOf(v.got) {
		switch r.number {
		case 0, 1:
			require.Nil(t, r.target)
			require.Equal(t, wire.Container_UNRESOLVED, r.container.GetKind(), "node1 has not explained the reference")
		case 10:
			require.Equal(t, "killer", r.container.GetName())
			require.Equal(t, "victim", r.target.GetName())
		case 11:
			require.Equal(t, wire.Container_HOST, r.target.GetKind())
			require.EqualValues(t, 2, r.target.GetNode())
		}
	}
}

// TestTenants: who asks for more than they may see gets a clear answer, and no agent
// is asked for anything.
func TestTenants(t *testing.T) {
	w := newWorld(t, Options{})
	a := w.agent("node1", quiet)
	shop := []string{"shop"}
	for _, test := range []struct {
		name, want string
		start      *wire.Start
	}{
		{"another namespace", `user "jane" may not trace pods in namespace "bank"`, &wire.Start{Selector: &wire.Selector{Namespaces: []string{"bank"}}}},
		{"one of two", `may not trace pods in namespace "bank"`, &wire.Start{Selector: &wire.Selector{Namespaces: []string{"shop", "bank"}}}},
		{"all", `may not trace pods in all namespaces`, &wire.Start{Selector: &wire.Selector{}}},
		{"no selector", `may not trace`, &wire.Start{}},
		{"a pod of any namespace", `in all namespaces`, &wire.Start{Selector: &wire.Selector{Pods: []string{"cart"}}}},
		{"labels", `in all namespaces`, &wire.Start{Selector: &wire.Selector{Labels: "app=cart"}}},
		{"a node", `in all namespaces`, &wire.Start{Selector: &wire.Selector{}, Nodes: []string{"node1"}}},
		{"the host", `may not trace processes outside of pods`, &wire.Start{Selector: &wire.Selector{Namespaces: shop, Host: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.start("jane", test.start).fails(codes.PermissionDenied, test.want)
		})
	}
	require.Empty(t, a.started())
	v := w.start("jane", &wire.Start{Selector: &wire.Selector{Namespaces: shop}, Nodes: []string{"node1"}})
	v.header("node1")
	v.stop()
	v.rest()
	_, err := w.client.Nodes(as(t.Context(), "jane"), &wire.NodesRequest{})
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	_, err = w.client.Doctor(as(t.Context(), "jane"), &wire.DoctorRequest{})
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	_, err = w.client.Catalog(as(t.Context(), "jane"), &wire.CatalogRequest{})
	require.NoError(t, err, "everybody may know which gadgets there are")
	_, err = w.client.Catalog(t.Context(), &wire.CatalogRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}

func TestAsking(t *testing.T) {
	w := newWorld(t, Options{})
	_, err := w.client.Catalog(as(t.Context(), "admin"), &wire.CatalogRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
	w.agent("node1", quiet)
	dead := w.agent("node2", quiet)
	dead.halt()
	w.agent("node3", quiet)
	nodes, err := w.client.Nodes(as(t.Context(), "admin"), &wire.NodesRequest{})
	require.NoError(t, err)
	require.Len(t, nodes.GetNodes(), 3)
	require.Equal(t, "v1", nodes.GetNodes()[0].GetInfo().GetAgentVersion())
	require.Equal(t, "node2", nodes.GetNodes()[1].GetName())
	require.NotEmpty(t, nodes.GetNodes()[1].GetError())
	require.Nil(t, nodes.GetNodes()[1].GetInfo())

	doctor, err := w.client.Doctor(as(t.Context(), "admin"), &wire.DoctorRequest{Nodes: []string{"node3", "node9"}})
	require.NoError(t, err)
	require.Len(t, doctor.GetNodes(), 2)
	require.Equal(t, "no BTF on node3", doctor.GetNodes()[0].GetDoctor().GetFindings()[0].GetProblem())
	require.Equal(t, "there is no agent on this node", doctor.GetNodes()[1].GetError())

	catalog, err := w.client.Catalog(as(t.Context(), "admin"), &wire.CatalogRequest{})
	require.NoError(t, err)
	var names []string
	for _, g := range catalog.GetGadgets() {
		names = append(names, g.GetName())
	}
	require.Equal(t, []string{"trace_node1", "trace_node3", "trace_x"}, names)
	stats := w.relay.Stats()
	require.Len(t, stats.Nodes, 3)
	require.False(t, stats.Nodes[1].Up)
	require.True(t, stats.Nodes[0].Up)
}
