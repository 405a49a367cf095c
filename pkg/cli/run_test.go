// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// The gadgets of the fake agent, which no program has built in.
var (
	moonSpec = &gadget.Spec{
		Name: "watch_moon", Description: "show the phases of the moon",
		Source: gadget.Source{Kind: gadget.Events, Map: "gadget_events", Size: 24, Fields: []gadget.Field{
			{Name: "n", Doc: "number", Offset: 0, Size: 8, Kind: gadget.Uint},
			{Name: "phase", Doc: "phase of the moon", Offset: 8, Size: 16, Kind: gadget.String},
		}},
		Params: []gadget.Param{{Name: "year", Doc: "year to look at", Kind: gadget.Uint, Size: 2, Default: "2026"}},
		Groups: []gadget.Group{{Name: "sky", Alternatives: []gadget.Alternative{
			{Name: "telescope", Rank: 1, Programs: []gadget.Program{{Name: "look", Section: "telescope/moon"}}},
		}}},
	}
	rowsSpec = &gadget.Spec{Name: "top_rows", Description: "count rows", Source: rowSource}
	psSpec   = &gadget.Spec{Name: "snapshot_rows", Description: "show rows", Source: gadget.Source{
		Kind: gadget.Snapshot, Size: rowSource.Size, Fields: rowSource.Fields,
	}}
)

// fake is an agent whose runs a test writes.
type fake struct {
	wire.UnimplementedAgentServer
	specs []*gadget.Spec
	// play sends what comes after the header.
	play func(s *stage) error

	mu    sync.Mutex
	start *wire.Start
}

// stage is a run of the fake agent.
type stage struct {
	send    func(*wire.RunResponse) error
	stopped <-chan struct{}
}

func (f *fake) Catalog(context.Context, *wire.CatalogRequest) (*wire.CatalogResponse, error) {
	response := &wire.CatalogResponse{}
	for _, spec := range f.specs {
		response.Gadgets = append(response.Gadgets, wire.FromSpec(spec))
	}
	return response, nil
}

func (f *fake) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.start = first.GetStart()
	f.mu.Unlock()
	header := &wire.Header{Protocol: wire.Current(), Node: &wire.Node{Name: "worker-1", Arch: "x86_64", Btf: "kernel 6.1: BTF in-kernel"}}
	for _, spec := range f.specs {
		if spec.Name == first.GetStart().GetGadget() {
			header.Gadget = wire.FromSpec(spec)
		}
	}
	if header.Gadget == nil {
		return status.Error(codes.NotFound, "unknown gadget")
	}
	header.Choices = []*wire.Choice{{Group: "sky", Alternative: "telescope", Rejected: []string{"glasses (look): too weak\x1b"}}, {Group: "sea"}}
	if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}}); err != nil {
		return err
	}
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
	return f.play(&stage{send: stream.Send, stopped: stopped})
}

// serve starts the agent and returns its address.
func serve(tb testing.TB, f *fake) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", path)
	require.NoError(tb, err)
	server := grpc.NewServer()
	wire.RegisterAgentServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tb.Cleanup(func() {
		server.Stop()
		require.NoError(tb, <-served)
	})
	return "unix://" + path
}

// batch sends records.
func (s *stage) batch(interval bool, records ...[]byte) error {
	b := &wire.Batch{IntervalEnd: interval}
	for _, record := range records {
		b.Records = wire.AppendRecord(b.Records, 0, record)
		b.Count++
	}
	return s.send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}})
}

func (s *stage) end(records uint64, loss *wire.Loss) error {
	return s.send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Records: records, Loss: loss}}})
}

// moon is a record of watch_moon.
func moon(n uint64, phase string) []byte {
	record := make([]byte, 24)
	for i := range 8 {
		record[i] = byte(n >> (8 * i))
	}
	copy(record[8:], phase)
	return record
}

// endless sends batches of 7 until it is told to stop, and a few more that were
// under way.
func endless(s *stage) error {
	sent := uint64(0)
	for tail := 3; tail > 0; {
		select {
		case <-s.stopped:
			tail--
		default:
		}
		var records [][]byte
		for range 7 {
			records = append(records, moon(sent, "full"))
			sent++
		}
		if err := s.batch(false, records...); err != nil {
			return err
		}
	}
	return s.end(sent, nil)
}

func TestEventsOfAGadgetThatTheClientHasNeverHeardOf(t *testing.T) {
	f := &fake{specs: []*gadget.Spec{moonSpec}, play: func(s *stage) error {
		if err := s.batch(false, moon(1, "new"), moon(2, "full\x1b[2J")); err != nil {
			return err
		}
		// Of a newer agent: a message that this client doesn't know.
		if err := s.send(&wire.RunResponse{}); err != nil {
			return err
		}
		return s.end(2, nil)
	}}
	address := serve(t, f)

	r := call(t, "watch", "moon", "--agent", address, "--year", "1969", "--filter", `phase == "full"`)
	require.Zero(t, r.status, r.err)
	require.Equal(t, "       N PHASE\n       1 new\n       2 full\\x1b[2J\n", trimmed(r.out))
	require.Equal(t, "2 events, 0 lost\n", r.err)
	require.Equal(t, map[string]string{"year": "1969"}, f.start.GetParams())
	require.Equal(t, `phase == "full"`, f.start.GetFilter())

	r = call(t, "watch", "moon", "-o", "json", "--agent="+address)
	require.Zero(t, r.status, r.err)
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(strings.SplitN(r.out, "\n", 2)[0]), &got))
	require.Equal(t, "worker-1", got["node"])
	require.InDelta(t, 1, got["n"], 0)
	require.Equal(t, "new", got["phase"])
	require.Empty(t, f.start.GetParams(), "defaults are the agent's")

	r = call(t, "watch", "moon", "--agent", address, "-o", "none")
	require.Empty(t, r.out)
	require.Equal(t, "2 events, 0 lost\n", r.err)

	r = call(t, "watch", "moon", "--agent", address, "--fields", "phase,n", "--verbose", "--alternative", "sky=telescope")
	require.Zero(t, r.status, r.err)
	require.Contains(t, r.out, "PHASE")
	require.Less(t, strings.Index(r.out, "PHASE"), strings.Index(r.out, "N\n"))
	require.Equal(t, "node worker-1: kernel 6.1: BTF in-kernel\nhook sky: telescope\n  not glasses (look): too weak\\x1b\nhook sea: nothing\n2 events, 0 lost\n", r.err)
	require.True(t, f.start.GetVerbose())
	require.Equal(t, map[string]string{"sky": "telescope"}, f.start.GetAlternatives())

	for args, want := range map[string]string{
		"catalog":                    "watch moon  events   show the phases of the moon",
		"inspect watch moon":         "--year     uint  2026     year to look at",
		"watch moon --help":          "--year uint",
		"inspect watch moon -o json": `"Name":"watch_moon"`,
	} {
		r := call(t, append(strings.Fields(args), "--agent", address)...)
		require.Zero(t, r.status, r.err)
		require.Contains(t, r.out, want)
	}
	r = call(t, "__complete", "watch", "moon", "--agent", address, "--ye")
	require.Contains(t, r.out, "--year\tyear to look at")

	for args, want := range map[string]string{
		"watch sun":                  `unknown command "sun" for kubectl-gadget watch, known are: moon`,
		"trace open":                 `unknown command "trace" for kubectl-gadget, known are:`,
		"watch moon --fields face":   `--fields: unknown field "face", known are: n, phase`,
		"watch moon --year 70000":    `--year is "70000", want a number from 0 to 65535`,
		"watch moon --pid 1":         "unknown flag: --pid",
		"watch moon --alternative x": "must be formatted as key=value",
	} {
		r := call(t, append(strings.Fields(args), "--agent", address)...)
		require.Equal(t, 2, r.status, args)
		require.Contains(t, r.err, want)
	}
}

// trimmed is a text without the spaces that end its lines.
func trimmed(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestMaxEventsStopsExactly(t *testing.T) {
	address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: endless})
	for _, limit := range []int{1, 6, 7, 8, 100} {
		for _, mode := range []string{"json", "none", "columns"} {
			r := call(t, "watch", "moon", "--agent", address, "-o", mode, "--max-events", fmt.Sprint(limit))
			require.Zero(t, r.status, r.err)
			want := map[string]int{"json": limit, "none": 0, "columns": limit + 1}[mode]
			require.Equal(t, want, strings.Count(r.out, "\n"))
			line := fmt.Sprintf("%d events, 0 lost\n", limit)
			if limit == 1 {
				line = "1 event, 0 lost\n"
			}
			require.Equal(t, line, r.err)
		}
	}
}

func TestTimeoutAndInterruptEndInGoodOrder(t *testing.T) {
	address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: func(s *stage) error {
		if err := s.batch(false, moon(1, "new")); err != nil {
			return err
		}
		<-s.stopped
		// What was recorded until then still comes.
		if err := s.batch(false, moon(2, "full")); err != nil {
			return err
		}
		return s.end(2, nil)
	}})
	r := call(t, "watch", "moon", "--agent", address, "-o", "json", "--timeout", "50ms")
	require.Zero(t, r.status, r.err)
	require.Equal(t, 2, strings.Count(r.out, "\n"))
	require.Equal(t, "2 events, 0 lost\n", r.err)

	stop, interrupt := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer interrupt()
	r = callUntil(t.Context(), stop, "watch", "moon", "--agent", address, "-o", "json")
	require.Zero(t, r.status, r.err)
	require.Equal(t, 2, strings.Count(r.out, "\n"))
	require.Equal(t, "2 events, 0 lost\n", r.err)
}

// TestSecondInterruptEndsAtOnce, whatever the agent does.
func TestSecondInterruptEndsAtOnce(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: func(*stage) error {
		<-release
		return nil
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stop, interrupt := context.WithTimeout(ctx, 10*time.Millisecond)
	defer interrupt()
	begin := time.Now()
	r := callUntil(ctx, stop, "watch", "moon", "--agent", address)
	require.Equal(t, 1, r.status)
	require.Less(t, time.Since(begin), 10*time.Second)
	assertNoTrace(t, r)
}

func TestSummaryTellsLosses(t *testing.T) {
	for _, test := range []struct {
		loss *wire.Loss
		args string
		want string
		bad  int
	}{
		{nil, "", "0 events, 0 lost\n", 0},
		{nil, "--fail-on-loss", "0 events, 0 lost\n", 0},
		{&wire.Loss{Kernel: 1234567}, "", "0 events, 1,234,567 lost (1,234,567 in the kernel's buffer, 0 in the agent's queue)\n", 0},
		{&wire.Loss{Kernel: 1, Queue: 2}, "", "0 events, 3 lost (1 in the kernel's buffer, 2 in the agent's queue)\n", 0},
		{
			&wire.Loss{Queue: 1000}, "--fail-on-loss",
			"0 events, 1,000 lost (0 in the kernel's buffer, 1,000 in the agent's queue)\nkubectl-gadget: 1,000 events were lost\n", 1,
		},
		{&wire.Loss{Skipped: 5}, "--fail-on-loss", "0 events, 0 lost, 5 program runs left out by the kernel\n", 0},
	} {
		address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: func(s *stage) error {
			if err := s.send(&wire.RunResponse{Response: &wire.RunResponse_Loss{Loss: &wire.Loss{Kernel: min(1, test.loss.GetKernel())}}}); err != nil {
				return err
			}
			return s.end(0, test.loss)
		}})
		r := call(t, append([]string{"watch", "moon", "--agent", address}, strings.Fields(test.args)...)...)
		require.Equal(t, test.bad, r.status)
		require.Equal(t, test.want, r.err)
	}
}

func TestRecordsThatNeverArrivedAreLost(t *testing.T) {
	address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: func(s *stage) error {
		return s.end(7, &wire.Loss{Queue: 3})
	}})
	r := call(t, "watch", "moon", "--agent", address, "--fail-on-loss")
	require.Equal(t, 1, r.status)
	require.Equal(t, "0 events, 7 lost (0 in the kernel's buffer, 3 in the agent's queue, 4 on the way)\n"+
		"kubectl-gadget: 7 events were lost\n", r.err)
}

func TestNoticesAreShownAndEscaped(t *testing.T) {
	address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: func(s *stage) error {
		notice := &wire.Notice{Text: "the moon sets soon\x1b[2J"}
		if err := s.send(&wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: notice}}); err != nil {
			return err
		}
		return s.end(0, nil)
	}})
	r := call(t, "watch", "moon", "--agent", address)
	require.Zero(t, r.status)
	require.Equal(t, "the moon sets soon\\x1b[2J\n0 events, 0 lost\n", r.err)
}

func TestRunThatFailsSaysSo(t *testing.T) {
	for _, test := range []struct {
		name   string
		play   func(s *stage) error
		status int
		want   string
	}{
		{"no end", func(*stage) error { return nil }, 1, "kubectl-gadget: the run ended without anybody's saying how it went\n"},
		{"agent's error", func(*stage) error { return status.Error(codes.Internal, "reading table: no memory") }, 1, "kubectl-gadget: reading table: no memory\n"},
		{"agent dies", func(*stage) error { return status.Error(codes.Unavailable, "EOF") }, 1, "kubectl-gadget: EOF\n"},
		{"user's mistake", func(*stage) error { return status.Error(codes.InvalidArgument, "no such phase") }, 2, "kubectl-gadget: no such phase\n"},
		{"damaged batch", func(s *stage) error {
			return s.send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: &wire.Batch{Count: 9}}})
		}, 1, "kubectl-gadget: batch is damaged: its records do not add up to its length\n"},
		{"escapes", func(*stage) error { return status.Error(codes.Internal, "bad \x1b[2J") }, 1, "kubectl-gadget: bad \\x1b[2J\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: test.play})
			r := call(t, "watch", "moon", "--agent", address, "-o", "json")
			require.Equal(t, test.status, r.status)
			require.Equal(t, test.want, r.err)
		})
	}
}

// failing is an output that is full.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatFailsEndsTheRun(t *testing.T) {
	address := serve(t, &fake{specs: []*gadget.Spec{moonSpec}, play: endless})
	var errs strings.Builder
	got := run(t.Context(), t.Context(), []string{"watch", "moon", "--agent", address, "-o", "json"}, Streams{Out: failing{}, Err: &errs})
	require.Equal(t, 1, got)
	require.Equal(t, "kubectl-gadget: writing events: no space left on device\n", errs.String())
}

// intervals sends two intervals of a table, the first in two messages.
func intervals(s *stage) error {
	for _, err := range []error{
		s.batch(false, row{name: "a", count: 5}.record(), row{name: "b", count: 50}.record()),
		s.batch(true, row{name: "c", count: 500}.record()),
		s.batch(true),
		s.batch(true, row{name: "d", count: 1}.record(), row{name: "e", count: 2}.record()),
		s.end(5, nil),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestTablesAreSortedAndLimitedByInterval(t *testing.T) {
	f := &fake{specs: []*gadget.Spec{rowsSpec, psSpec}, play: intervals}
	address := serve(t, f)
	for _, test := range []struct {
		args string
		want []string
		line string
	}{
		{"", []string{"a", "b", "c", "d", "e"}, "5 rows, 0 lost\n"},
		{"--sort -count", []string{"c", "b", "a", "e", "d"}, "5 rows, 0 lost\n"},
		{"--sort count --max-entries 2", []string{"a", "b", "d", "e"}, "4 rows, 0 lost\n"},
		{"--sort -count --max-entries 1", []string{"c", "e"}, "2 rows, 0 lost\n"},
		{"--sort -count --max-events 4", []string{"c", "b", "a", "e"}, "4 rows, 0 lost\n"},
		{"--max-events 2", []string{"a", "b"}, "2 rows, 0 lost\n"},
		{"--max-events 3", []string{"a", "b", "c"}, "3 rows, 0 lost\n"},
		{"--interval 250ms --sort -name", []string{"c", "b", "a", "e", "d"}, "5 rows, 0 lost\n"},
	} {
		for _, verb := range []string{"top", "snapshot"} {
			args := append([]string{verb, "rows", "--agent", address, "-o", "json"}, strings.Fields(test.args)...)
			r := call(t, args...)
			require.Zero(t, r.status, r.err)
			var got []string
			for line := range strings.Lines(r.out) {
				var object struct{ Name string }
				require.NoError(t, json.Unmarshal([]byte(line), &object))
				got = append(got, object.Name)
			}
			require.Equal(t, test.want, got, test.args)
			require.Equal(t, test.line, r.err)
		}
	}
	require.EqualValues(t, 250*time.Millisecond, f.start.GetInterval())

	r := call(t, "top", "rows", "--agent", address, "--fields", "name,count", "--sort", "-count")
	require.Zero(t, r.status, r.err)
	require.Equal(t, 3, strings.Count(r.out, "NAME"), "each interval has its header:\n%s", r.out)
}

func TestOneBrokenGadgetOfAnAgentIsReported(t *testing.T) {
	broken := &gadget.Spec{Name: "watch_moon", Source: gadget.Source{Kind: gadget.Events, Fields: []gadget.Field{{Name: "x", Size: 1 << 30, Kind: gadget.Uint}}}}
	address := serve(t, &fake{specs: []*gadget.Spec{broken}})
	r := call(t, "catalog", "--agent", address)
	require.Equal(t, 1, r.status)
	require.Equal(t, "kubectl-gadget: listing gadgets: gadget \"watch_moon\": field \"x\" lies outside of any record\n", r.err)
}
