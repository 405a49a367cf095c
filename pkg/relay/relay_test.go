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
	"nodegadget.dev/pkg/pki"
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

func TestDeadNodeCostsItsOwnEventsAndComesBack(t *testing.T) {
	w := newWorld(t, Options{})
	ticking := func(_ *wire.Start, run *agentRun) error {
		if err := run.begin(); err != nil {
			return err
		}
		if err := run.Send(&wire.RunResponse{Response: &wire.RunResponse_Loss{Loss: &wire.Loss{Kernel: 5}}}); err != nil {
			return err
		}
		for {
			if err := run.numbers(0, 1); err != nil {
				return err
			}
			select {
			case <-run.stop:
				return run.end(&wire.Loss{Kernel: 5})
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	w.agent("node1", ticking)
	dying := w.agent("node2", ticking)
	v := w.start("admin", &wire.Start{})
	number := v.header("node2").GetNode()
	v.until(func(m *wire.RunResponse) bool { return m.GetLoss() != nil && m.GetNode() == number })
	v.records(20)
	address := dying.address
	dying.halt()
	gone := v.gone("node2")
	require.NotEmpty(t, gone.GetReason())
	require.EqualValues(t, 5, gone.GetLoss().GetKernel(), "what was known stays known")
	before := len(recordsOf(v.got))
	v.records(before + 20)
	w.listen(dying, address)
	again := v.header("node2")
	require.Equal(t, number, again.GetNode())
	require.Len(t, dying.started(), 2)
	v.stop()
	end := v.rest()
	require.EqualValues(t, 15, end.GetLoss().GetKernel(), "both runs of node2 and that of node1")
	require.GreaterOrEqual(t, int(end.GetRecords()), len(recordsOf(v.got)))
}

func TestNodesJoinAndLeave(t *testing.T) {
	w := newWorld(t, Options{})
	w.agent("node1", quiet)
	v := w.start("admin", &wire.Start{})
	v.header("node1")
	w.agent("node2", quiet)
	require.EqualValues(t, 2, v.header("node2").GetNode())
	w.enlist("node1")
	require.Equal(t, "its agent is gone", v.gone("node1").GetReason())
	require.Equal(t, "there is no agent on this node", v.gone("node1").GetReason())
	w.enlist()
	require.EqualValues(t, 1, v.header("node1").GetNode())
	v.stop()
	v.rest()
}

func TestOnlyWantedNodesRun(t *testing.T) {
	w := newWorld(t, Options{})
	first, second := w.agent("node1", quiet), w.agent("node2", quiet)
	v := w.start("admin", &wire.Start{Nodes: []string{"node2", "node3"}, Selector: &wire.Selector{Host: true, Labels: "app=cart"}})
	require.Equal(t, []string{"node2"}, v.session().GetNodes())
	v.gone("node3")
	third := w.agent("node3", quiet)
	v.header("node3")
	v.stop()
	v.rest()
	require.Empty(t, first.started())
	for _, a := range []*fakeAgent{second, third} {
		require.Len(t, a.started(), 1)
		start := a.started()[0]
		require.Empty(t, start.GetNodes())
		require.Equal(t, "trace_x", start.GetGadget())
		require.Equal(t, "app=cart", start.GetSelector().GetLabels())
		require.True(t, start.GetSelector().GetHost())
	}
	w.start("admin", &wire.Start{Nodes: []string{"nodeX"}}).fails(codes.NotFound, `no agent on any of the nodes ["nodeX"]`)
	w.fleet.Set(nil)
	w.start("admin", &wire.Start{}).fails(codes.Unavailable, "there are no agents")
}

func TestRefusals(t *testing.T) {
	refuse := func(code codes.Code, text string) func(*wire.Start, *agentRun) error {
		return func(*wire.Start, *agentRun) error { return status.Error(code, text) }
	}
	t.Run("all", func(t *testing.T) {
		w := newWorld(t, Options{})
		a := w.agent("node1", refuse(codes.InvalidArgument, "no parameter --foo"))
		w.agent("node2", refuse(codes.InvalidArgument, "no parameter --foo"))
		w.start("admin", &wire.Start{}).fails(codes.InvalidArgument, "no parameter --foo")
		require.Len(t, a.started(), 1, "who refuses is not asked again")
	})
	t.Run("one", func(t *testing.T) {
		w := newWorld(t, Options{})
		w.agent("node1", quiet)
		old := w.agent("node2", refuse(codes.FailedPrecondition, "no BTF"))
		v := w.start("admin", &wire.Start{})
		require.Equal(t, "no BTF", v.gone("node2").GetReason())
		w.agent("node3", quiet)
		v.header("node3")
		require.Len(t, old.started(), 1)
		old.halt()
		w.agent("node2", quiet)
		v.header("node2")
		v.stop()
		v.rest()
	})
	t.Run("one ends by itself, one isn't there", func(t *testing.T) {
		w := newWorld(t, Options{})
		w.agent("node1", func(_ *wire.Start, run *agentRun) error {
			if err := run.begin(); err != nil {
				return err
			}
			return run.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{}}})
		})
		w.agent("node2", refuse(codes.Internal, "out of memory"))
		v := w.start("admin", &wire.Start{})
		v.rest()
		require.True(t, slices.ContainsFunc(v.got, func(m *wire.RunResponse) bool { return m.GetGone().GetReason() == "out of memory" }))
		require.True(t, slices.ContainsFunc(v.got, func(m *wire.RunResponse) bool { return m.GetNode() == 1 && m.GetEnd() != nil }))
	})
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

// TestOnlyTheNodesAgentIsTrusted: an agent, or who has stolen its key, can't be another node's.
func TestOnlyTheNodesAgentIsTrusted(t *testing.T) {
	w := newWorld(t, Options{})
	w.agent("node1", quiet)
	impostor := &fakeAgent{node: "node2", play: quiet}
	identity, err := pki.Agent("node1")
	require.NoError(t, err)
	w.listenAs(impostor, "127.0.0.1:0", identity)
	t.Cleanup(impostor.halt)
	w.agents["node2"] = impostor
	w.enlist()
	v := w.start("admin", &wire.Start{})
	require.Contains(t, v.gone("node2").GetReason(), "the peer is spiffe://nodegadget.dev/agent/node1, not spiffe://nodegadget.dev/agent/node2")
	require.Empty(t, impostor.started())
	v.stop()
	v.rest()
}

func TestBadAgents(t *testing.T) {
	for _, test := range []struct {
		name, want string
		play       func(*wire.Start, *agentRun) error
	}{
		{"no header", "first message is not a header", func(_ *wire.Start, run *agentRun) error { return run.numbers(0, 1) }},
		{"nothing", "ended the run before it began", func(*wire.Start, *agentRun) error { return nil }},
		{"no end", "ended the run without saying so", func(_ *wire.Start, run *agentRun) error { return run.begin() }},
		{"another major version", "use the same major version", func(_ *wire.Start, run *agentRun) error {
			return run.header(&wire.Header{Protocol: &wire.Version{Major: 9}})
		}},
		{"knows no selector", "too old to select containers", func(_ *wire.Start, run *agentRun) error {
			return run.header(&wire.Header{Protocol: &wire.Version{Major: 1}})
		}},
		{"damaged batch", "batch is damaged", func(_ *wire.Start, run *agentRun) error {
			if err := run.begin(); err != nil {
				return err
			}
			return run.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: &wire.Batch{Count: 1, Records: []byte{200, 0, 0, 0, 1}}}})
		}},
		{"damaged targets", "batch is damaged", func(_ *wire.Start, run *agentRun) error {
			if err := run.begin(); err != nil {
				return err
			}
			return run.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: &wire.Batch{
				Count: 1, Records: wire.AppendRecord(nil, 0, record(0, 0)), Targets: []uint32{1, 2},
			}}})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, Options{})
			w.agent("good", quiet)
			w.agent("node1", test.play)
			v := w.start("admin", &wire.Start{Selector: &wire.Selector{}})
			require.Contains(t, v.gone("node1").GetReason(), test.want)
			v.stop()
			v.rest()
		})
	}
}
