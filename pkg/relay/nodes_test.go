// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

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

// TestGoneIsToldOnce, however often the agent is tried.
func TestGoneIsToldOnce(t *testing.T) {
	w := newWorld(t, Options{})
	tries := make(chan struct{}, 10)
	w.agent("node1", quiet)
	w.agent("node2", func(*wire.Start, *agentRun) error {
		tries <- struct{}{}
		return status.Error(codes.Internal, "out of memory")
	})
	v := w.start("admin", &wire.Start{})
	for range 3 {
		<-tries
	}
	v.stop()
	v.rest()
	told := 0
	for _, m := range v.got {
		if m.GetGone() != nil {
			told++
		}
	}
	require.Equal(t, 1, told)
}
