// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/cluster/clustertest"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// tideSpec is a gadget whose records have their time.
var tideSpec = &gadget.Spec{
	Name: "watch_tide", Description: "show the tide",
	Source: gadget.Source{Kind: gadget.Events, Map: "gadget_events", Size: 16, Fields: []gadget.Field{
		{Name: "time", Doc: "time", Offset: 0, Size: 8, Kind: gadget.Uint, Semantic: gadget.Timestamp},
		{Name: "n", Doc: "number", Offset: 8, Size: 8, Kind: gadget.Uint},
	}},
}

// tide is a record of watch_tide.
func tide(at, n uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, at), n)
}

func replayedOf() *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Replayed{Replayed: &wire.Replayed{}}}
}

// inTurn sends messages about nodes: a number for the node, and a message, and so on.
func (s *relayStage) inTurn(messages ...any) error {
	for i := 0; i < len(messages); i += 2 {
		if err := s.send(uint32(messages[i].(int)), messages[i+1].(*wire.RunResponse)); err != nil {
			return err
		}
	}
	return nil
}

// tides is a relay that replays 1 to 5 of two nodes, and then goes on with 6 and 7.
func tides(s *relayStage) error {
	attach := s.request.GetStart().GetAttach()
	if err := s.inTurn(
		0, sessionOf(), 1, headerOf("node1", 1e18, tideSpec), 2, headerOf("node2", 1e18, tideSpec), 1, cartOf(),
		0, recordsOf(false, 11, tide(1, 1), 12, tide(2, 2)), 0, recordsOf(false, 11, tide(3, 3), 14, tide(4, 4), 11, tide(5, 5)), 0, replayedOf(),
	); err != nil {
		return err
	}
	total := uint64(5)
	if attach.GetFollow() {
		if err := s.inTurn(0, recordsOf(false, 11, tide(6, 6), 12, tide(7, 7))); err != nil {
			return err
		}
		<-s.stopped
		total = 7
	}
	return s.inTurn(1, endOf(4, nil), 2, endOf(1, nil), 0, endOf(total, nil))
}

// logs calls session logs for a session of the gadget, with a relay that plays.
func logs(t *testing.T, spec *gadget.Spec, play func(*relayStage) error, args ...string) (result, *wire.Start) {
	t.Helper()
	f := &fakeRelay{specs: []*gadget.Spec{spec}, play: play}
	s := clustertest.New(t, f)
	s.Put("tracesessions", sessionNamed("shop", "tides", fmt.Sprintf(`, "spec": {"gadget": {"name": %q}}, "status": {"phase": "Running"}`, spec.Name)))
	r := call(t, append([]string{"session", "logs", "tides", "--kubeconfig", s.Kubeconfig}, args...)...)
	if len(f.requests) == 0 {
		return r, nil
	}
	return r, f.started()
}

// numbersIn are those of the JSON lines of watch_tide.
func numbersIn(out string) string {
	var numbers []string
	for line := range strings.Lines(out) {
		_, rest, _ := strings.Cut(line, `"n":`)
		numbers = append(numbers, strings.TrimRight(rest, "}\n"))
	}
	return strings.Join(numbers, " ")
}

func TestSessionLogs(t *testing.T) {
	r, start := logs(t, tideSpec, tides)
	require.Zero(t, r.status, r.err)
	golden(t, "session-logs.txt", strings.ReplaceAll(r.out, time.Unix(0, 1e18).Format("15:04:05"), "hh:mm:ss"))
	require.Equal(t, "5 events, 0 lost\n", r.err)
	require.True(t, proto.Equal(&wire.Start{
		Protocol: wire.Current(), Attach: &wire.Attach{Namespace: "shop", Name: "tides", Uid: "uid-1"},
	}, start), start.String())

	r, _ = logs(t, tideSpec, tides, "-o", "json")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "1 2 3 4 5", numbersIn(r.out))
	require.Contains(t, r.out, `"node":"node1","namespace":"shop","pod":"cart-1"`)
	require.Contains(t, r.out, `"time":"2001-09-09T01:46:40.000000001Z"`)
}

func TestSessionLogsOfSomeRecords(t *testing.T) {
	for _, test := range []struct {
		args, want string
		tail       uint64
	}{
		{"--tail 2", "4 5", 2},
		{"--tail 0", "", 1},
		{"--tail 99", "1 2 3 4 5", 99},
		{"--tail -1", "1 2 3 4 5", 0},
		{"--filter n>1&&n<5", "2 3 4", 0},
		{"--filter n>1&&n<5 --tail 2", "3 4", 0},
		{"--max-events 3", "1 2 3", 0},
		{"--tail 4 --max-events 3", "2 3 4", 4},
		{"-f --max-events 7", "1 2 3 4 5 6 7", 0},
		{"-f --tail 1 --max-events 3", "5 6 7", 1},
		{"-f --tail 0 --timeout 200ms", "6 7", 1},
	} {
		t.Run(test.args, func(t *testing.T) {
			r, start := logs(t, tideSpec, tides, append([]string{"-o", "json"}, strings.Fields(test.args)...)...)
			require.Zero(t, r.status, r.err)
			require.Equal(t, test.want, numbersIn(r.out))
			require.Equal(t, test.tail, start.GetAttach().GetTail())
			require.Equal(t, strings.HasPrefix(test.args, "-f "), start.GetAttach().GetFollow())
		})
	}
	before := time.Now().Add(-time.Minute).UnixNano()
	_, start := logs(t, tideSpec, tides, "--since", "1m")
	require.GreaterOrEqual(t, start.GetAttach().GetSince(), before)
	require.Less(t, start.GetAttach().GetSince(), before+int64(30*time.Second))
	_, start = logs(t, tideSpec, tides, "--since-time", "2026-11-05T10:00:00.5Z")
	require.Equal(t, time.Date(2026, 11, 5, 10, 0, 0, 5e8, time.UTC).UnixNano(), start.GetAttach().GetSince())
}

func TestSessionLogsOfTheCluster(t *testing.T) {
	f := &fakeRelay{specs: []*gadget.Spec{tideSpec}, play: tides}
	s := clustertest.New(t, f)
	s.Put("clustertracesessions", sessionNamed("", "tides", `, "spec": {"gadget": {"name": "watch_tide"}}`))
	r := call(t, "session", "logs", "tides", "--cluster", "--kubeconfig", s.Kubeconfig, "-o", "none")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "5 events, 0 lost\n", r.err)
	require.Empty(t, f.started().GetAttach().GetNamespace())
}

// TestSessionLogsOfNothing says why there is nothing.
func TestSessionLogsOfNothing(t *testing.T) {
	r, _ := logs(t, tideSpec, func(s *relayStage) error { return s.inTurn(0, sessionOf(), 0, replayedOf(), 0, endOf(0, nil)) })
	require.Zero(t, r.status)
	require.Equal(t, "no node has recorded anything of it: the session is Running\n0 events, 0 lost\n", r.err)
	r, _ = logs(t, tideSpec, func(s *relayStage) error {
		// Others may have what this one doesn't.
		return s.inTurn(0, sessionOf(), 2, goneOf("node2", "its agent is too old"), 1, headerOf("node1", 0, tideSpec), 0, replayedOf(), 0, endOf(0, &wire.Loss{Throttled: 3}))
	}, "--fail-on-loss")
	require.Equal(t, 1, r.status)
	require.Equal(t, "node node2: gone: its agent is too old\nnode node2: didn't take part: its agent is too old\n"+
		"0 events, 0 lost, 3 throttled\nkubectl-gadget: 3 events were throttled\n", r.err)
	r, _ = logs(t, tideSpec, func(*relayStage) error { return status.Error(codes.PermissionDenied, "jane may not read") })
	require.Equal(t, 1, r.status)
	require.Equal(t, "kubectl-gadget: jane may not read\n", r.err)
}

// TestSessionLogsOfAnUnknownGadget: the records themselves say what they are.
func TestSessionLogsOfAnUnknownGadget(t *testing.T) {
	f := &fakeRelay{play: tides}
	s := clustertest.New(t, f)
	s.Put("tracesessions", sessionNamed("shop", "tides", `, "spec": {"gadget": {"name": "watch_tide"}}`))
	r := call(t, "session", "logs", "tides", "--kubeconfig", s.Kubeconfig, "-o", "json", "--fields", "n")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "1 2 3 4 5", numbersIn(r.out))
}

// TestReadingsBelongTogetherFromTheEnd: the node that joined later has fewer of them.
func TestReadingsBelongTogetherFromTheEnd(t *testing.T) {
	reading := func(ref int, name string, count uint64) *wire.RunResponse {
		return recordsOf(true, ref, row{name: name, count: count}.record())
	}
	play := func(s *relayStage) error {
		return s.inTurn(
			0, sessionOf(), 1, headerOf("node1", 0, rowsSpec), 2, headerOf("node2", 0, rowsSpec), 1, cartOf(),
			1, reading(11, "a", 1), 1, reading(11, "a", 2), 1, reading(11, "a", 3), 2, reading(12, "b", 30), 0, replayedOf(),
			1, reading(11, "a", 4), 2, reading(12, "b", 40), 1, endOf(4, nil), 2, endOf(2, nil), 0, endOf(6, nil))
	}
	r, _ := logs(t, rowsSpec, play, "--fields", "node,name,count")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "node1 a 1|node1 a 2|node1 a 3,node2 b 30|node1 a 4,node2 b 40", readings(r.out))
	require.Equal(t, "6 rows, 0 lost\n", r.err)
	r, start := logs(t, rowsSpec, play, "--fields", "node,name,count", "--tail", "1")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "node1 a 3,node2 b 30|node1 a 4,node2 b 40", readings(r.out))
	require.Zero(t, start.GetAttach().GetTail(), "rows of a reading are not cut")
	r, _ = logs(t, rowsSpec, play, "--fields", "node,name,count", "--filter", `name == "b"`)
	require.Equal(t, "||node2 b 30|node2 b 40", readings(r.out))
}

// readings are the tables of an output, without their headers.
func readings(out string) string {
	var tables []string
	for table := range strings.SplitSeq(trimmed(out), "\n\n") {
		var rows []string
		for _, line := range strings.Split(strings.TrimSpace(table), "\n")[1:] {
			rows = append(rows, strings.Join(strings.Fields(line), " "))
		}
		tables = append(tables, strings.Join(rows, ","))
	}
	return strings.Join(tables, "|")
}

// TestLogsGoOnWhenTheRelayForgets: nothing is shown twice, and nothing is left out.
func TestLogsGoOnWhenTheRelayForgets(t *testing.T) {
	var s *clustertest.Server
	f := &fakeRelay{specs: []*gadget.Spec{tideSpec}}
	f.play = func(st *relayStage) error {
		attach := st.request.GetStart().GetAttach()
		switch {
		case st.request.GetResume() != nil:
			return status.Error(codes.NotFound, "there is no such session")
		case attach.GetSince() != 0:
			again := sessionOf()
			again.GetSession().Id = "t"
			return st.inTurn(0, again, 1, headerOf("node1", 1e18, tideSpec), 1, cartOf(),
				0, recordsOf(false, 11, tide(4, 4)), 0, replayedOf(), 1, endOf(1, nil), 0, endOf(1, nil))
		}
		if err := st.inTurn(0, sessionOf(), 1, headerOf("node1", 1e18, tideSpec), 1, cartOf(),
			0, recordsOf(false, 11, tide(1, 1), 11, tide(2, 2), 11, tide(3, 3)), 0, replayedOf()); err != nil {
			return err
		}
		time.AfterFunc(100*time.Millisecond, s.Break)
		<-st.stream.Context().Done()
		return nil
	}
	s = clustertest.New(t, f)
	s.Put("tracesessions", sessionNamed("shop", "tides", `, "spec": {"gadget": {"name": "watch_tide"}}`))
	r := call(t, "session", "logs", "tides", "-f", "--tail", "2", "-o", "json", "--kubeconfig", s.Kubeconfig)
	require.Zero(t, r.status, r.err)
	require.Equal(t, "2 3 4", numbersIn(r.out))
	require.Contains(t, r.err, "the relay has forgotten what was read, which goes on behind what was shown\n3 events, 0 lost\n")
	require.EqualValues(t, int64(1e18)+3, f.requests[2].GetStart().GetAttach().GetSince())
}
