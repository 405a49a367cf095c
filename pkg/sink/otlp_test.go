// SPDX-License-Identifier: Apache-2.0

package sink_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// collector is an OTLP server that keeps what it has taken.
type collector struct {
	collogspb.UnimplementedLogsServiceServer
	// answer is asked before a request is taken; nil takes all.
	answer func(ctx context.Context, records int) (*collogspb.ExportLogsServiceResponse, error)

	mu       sync.Mutex
	requests []*collogspb.ExportLogsServiceRequest
}

func (c *collector) Export(ctx context.Context, request *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	response := &collogspb.ExportLogsServiceResponse{}
	if c.answer != nil {
		var err error
		n := len(request.GetResourceLogs()[0].GetScopeLogs()[0].GetLogRecords())
		if response, err = c.answer(ctx, n); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, request)
	return response, nil
}

// records are all that the server has taken.
func (c *collector) records() []*logspb.LogRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*logspb.LogRecord
	for _, request := range c.requests {
		for _, r := range request.GetResourceLogs() {
			all = append(all, r.GetScopeLogs()[0].GetLogRecords()...)
		}
	}
	return all
}

// serve serves the collector at an address, "" for any, until the test or stop ends it.
func serve(t *testing.T, c *collector, address string, opts ...grpc.ServerOption) (endpoint string, stop func()) {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	server := grpc.NewServer(opts...)
	collogspb.RegisterLogsServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			server.Stop()
			<-served
		})
	}
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

// values are attributes as plain Go values.
func values(attributes []*commonpb.KeyValue) map[string]any {
	all := map[string]any{}
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[a.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[a.GetKey()] = v.IntValue
		case *commonpb.AnyValue_BoolValue:
			all[a.GetKey()] = v.BoolValue
		case *commonpb.AnyValue_ArrayValue:
			var items []string
			for _, item := range v.ArrayValue.GetValues() {
				items = append(items, item.GetStringValue())
			}
			all[a.GetKey()] = items
		}
	}
	return all
}

func TestLogsHaveTheConventionsValues(t *testing.T) {
	server := &collector{}
	endpoint, _ := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{})
	stop := start(t, o, execSpec(), tp)
	before := time.Now()
	b := batchOf(7, thing(1, "s h\xff", "sh\x00-c\x00\x1b\x00"))
	b.Targets = []uint32{8}
	tp.Append(b, []*wire.Container{cart(), pay()})
	tp.Append(batchOf(0, thing(2, "init", "")), nil)
	require.Equal(t, sink.State{Written: 2}, settled(t, o, 2))
	require.NoError(t, stop())

	logs := server.requests[0].GetResourceLogs()[0]
	require.Equal(t, map[string]any{
		"service.name": "nodegadget", "k8s.node.name": "worker-1", "host.name": "worker-1", "os.type": "linux", "host.arch": "amd64",
	}, values(logs.GetResource().GetAttributes()))
	require.Contains(t, logs.GetSchemaUrl(), "opentelemetry.io/schemas/")
	require.Equal(t, "trace_things", logs.GetScopeLogs()[0].GetScope().GetName())
	records := server.records()
	require.Equal(t, map[string]any{
		"nodegadget.session.name": "carts", "nodegadget.session.namespace": "shop",
		"k8s.namespace.name": "shop", "k8s.pod.name": "cart-1", "k8s.pod.uid": "u-1", "k8s.container.name": "web",
		"container.id": "c0ffee", "container.image.name": "cart:v1",
		"pid": int64(1), "errno": int64(1), "error": "EPERM", "comm": "s h\ufffd", "args": []string{"sh", "-c", "\x1b"},
		"target.pid": int64(2), "target.cgroup_id": int64(77),
		"target.namespace": "shop", "target.pod": "pay-1", "target.container": "pay", "target.containerID": "decaf", "target.image": "pay:v1",
		"size": "9223372036854775809", "failed": true, "delta": int64(-1),
	}, values(records[0].GetAttributes()))
	require.Equal(t, `pid=1 error=EPERM comm="s h\xff" args="sh -c \x1b" target.pid=2 size=9223372036854775809 failed=true delta=-1`, records[0].GetBody().GetStringValue())
	require.Equal(t, uint64(boot.Add(time.Millisecond).UnixNano()), records[0].GetTimeUnixNano())
	require.WithinDuration(t, before, time.Unix(0, int64(records[0].GetObservedTimeUnixNano())), time.Minute)
	require.NotContains(t, values(records[1].GetAttributes()), "k8s.pod.name", "the host is no pod")
	require.NotContains(t, values(records[1].GetAttributes()), "target.pod")
}

// TestNoFieldPassesForAPod: what a gadget calls its fields doesn't change whose records are.
func TestNoFieldPassesForAPod(t *testing.T) {
	spec := execSpec()
	spec.Source.Fields[3].Name = "k8s.pod.name"
	server := &collector{}
	endpoint, _ := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{})
	tp.Append(batchOf(7, thing(1, "victim", "")), []*wire.Container{cart()})
	tp.Close()
	header := headerOf(spec)
	if err := o.Run(t.Context(), header, tp.Read(tape.From{})); err == nil {
		require.Equal(t, "cart-1", values(server.records()[0].GetAttributes())["k8s.pod.name"])
	}
}

func TestRequestsAreBounded(t *testing.T) {
	server := &collector{}
	endpoint, _ := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{Bytes: 64 << 20})
	var rows [][]byte
	for n := range uint32(200) {
		rows = append(rows, thing(n, "big", strings.Repeat("x", 40_000)+"\x00"))
	}
	tp.Append(batchOf(0, rows...), nil)
	tp.Append(things(200, 3000), nil)
	stop := start(t, o, execSpec(), tp)
	require.Equal(t, sink.State{Written: 3000}, settled(t, o, 3000))
	require.NoError(t, stop())
	require.Greater(t, len(server.requests), 10)
	for _, request := range server.requests {
		require.Less(t, proto.Size(request), 3<<20/2)
		require.LessOrEqual(t, len(request.GetResourceLogs()[0].GetScopeLogs()[0].GetLogRecords()), 512)
	}
	for i, r := range server.records() {
		require.EqualValues(t, i, values(r.GetAttributes())["pid"], "in order, each once")
	}
}

func TestFewRecordsDoNotWaitForMore(t *testing.T) {
	server := &collector{}
	endpoint, _ := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{})
	stop := start(t, o, execSpec(), tp)
	for n := range uint32(20) {
		tp.Append(things(n, n+1), nil)
	}
	require.Eventually(t, func() bool { return o.State().Written == 20 }, 5*time.Second, 5*time.Millisecond)
	require.Less(t, len(server.requests), 4)
	require.NoError(t, stop())
}

func TestTheServerGoesAndComesBack(t *testing.T) {
	server := &collector{}
	endpoint, down := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{Records: 1500})
	stop := start(t, o, execSpec(), tp)
	tp.Append(things(0, 100), nil)
	settled(t, o, 100)
	down()
	tp.Append(things(100, 200), nil)
	require.Eventually(t, func() bool { return o.State().Err != nil }, 10*time.Second, 5*time.Millisecond)
	require.ErrorContains(t, o.State().Err, "sending to "+endpoint+": Unavailable")
	begun := time.Now()
	for n := uint32(200); n < 10_000; n += 100 {
		tp.Append(things(n, n+100), nil)
	}
	require.Less(t, time.Since(begun), 5*time.Second, "nobody waits for the server")
	require.NotZero(t, o.State().Dropped, "what was overtaken is counted at once")
	serve(t, server, endpoint)
	s := settled(t, o, 10_000)
	require.NoError(t, s.Err)
	require.NoError(t, stop())
	got := server.records()
	require.EqualValues(t, len(got), s.Written)
	last := int64(-1)
	for _, r := range got {
		pid := values(r.GetAttributes())["pid"].(int64)
		require.Greater(t, pid, last, "in order, each once")
		last = pid
	}
	require.EqualValues(t, 9999, last)
}

func TestTheServerRejects(t *testing.T) {
	for _, test := range []struct {
		name    string
		answer  func(tries int, records int) (*collogspb.ExportLogsServiceResponse, error)
		want    sink.State
		wantErr string
	}{
		{"all, for ever", func(int, int) (*collogspb.ExportLogsServiceResponse, error) {
			return nil, status.Error(codes.Unauthenticated, "who\x1b are you")
		}, sink.State{Dropped: 10}, `Unauthenticated: who\x1b are you`},
		{"what is too large", func(int, int) (*collogspb.ExportLogsServiceResponse, error) {
			return nil, status.Error(codes.ResourceExhausted, "too large")
		}, sink.State{Dropped: 10}, "ResourceExhausted: too large"},
		{"some", func(int, int) (*collogspb.ExportLogsServiceResponse, error) {
			return &collogspb.ExportLogsServiceResponse{PartialSuccess: &collogspb.ExportLogsPartialSuccess{
				RejectedLogRecords: 3, ErrorMessage: strings.Repeat("no", 1000),
			}}, nil
		}, sink.State{Written: 7, Dropped: 3}, "3 records rejected: nono"},
		{"more than there were", func(int, int) (*collogspb.ExportLogsServiceResponse, error) {
			return &collogspb.ExportLogsServiceResponse{PartialSuccess: &collogspb.ExportLogsPartialSuccess{RejectedLogRecords: 1 << 40}}, nil
		}, sink.State{Dropped: 10}, "records rejected"},
		{"nothing, but it warns", func(int, int) (*collogspb.ExportLogsServiceResponse, error) {
			return &collogspb.ExportLogsServiceResponse{PartialSuccess: &collogspb.ExportLogsPartialSuccess{ErrorMessage: "old"}}, nil
		}, sink.State{Written: 10}, ""},
		{"for a while", func(tries, _ int) (*collogspb.ExportLogsServiceResponse, error) {
			if tries > 1 {
				return &collogspb.ExportLogsServiceResponse{}, nil
			}
			return nil, status.Error(codes.Unavailable, "busy")
		}, sink.State{Written: 10}, ""},
		{"for as long as it says", func(tries, _ int) (*collogspb.ExportLogsServiceResponse, error) {
			if tries > 0 {
				return &collogspb.ExportLogsServiceResponse{}, nil
			}
			s, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(700 * time.Millisecond)})
			if err != nil {
				return nil, err
			}
			return nil, s.Err()
		}, sink.State{Written: 10}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			tries := 0
			server := &collector{answer: func(_ context.Context, records int) (*collogspb.ExportLogsServiceResponse, error) {
				tries++
				return test.answer(tries-1, records)
			}}
			endpoint, _ := serve(t, server, "")
			o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
			tp := tape.New(tape.Options{})
			tp.Append(things(0, 10), nil)
			stop := start(t, o, execSpec(), tp)
			s := settled(t, o, 10)
			if test.wantErr == "" {
				require.NoError(t, s.Err)
			} else {
				require.ErrorContains(t, s.Err, test.wantErr)
				require.Less(t, len(s.Err.Error()), 400)
			}
			s.Err = nil
			require.Equal(t, test.want, s)
			require.NoError(t, stop())
		})
	}
}

// TestAServerThatHangs: neither the session nor its end waits for it.
func TestAServerThatHangs(t *testing.T) {
	server := &collector{answer: func(ctx context.Context, _ int) (*collogspb.ExportLogsServiceResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	endpoint, _ := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{Records: 1000})
	stop := start(t, o, execSpec(), tp)
	batch, begun := things(0, 100), time.Now()
	for range 1000 {
		tp.Append(batch, nil)
	}
	require.Less(t, time.Since(begun), 5*time.Second)
	require.Eventually(t, func() bool { return o.State().Dropped > 90_000 }, 5*time.Second, time.Millisecond)
	begun = time.Now()
	require.NoError(t, stop())
	require.Less(t, time.Since(begun), 4*time.Second)
	require.Equal(t, uint64(100_000), o.State().Dropped)
}

func TestTheEndSendsWhatThereIs(t *testing.T) {
	server := &collector{}
	endpoint, _ := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: shopSession, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{})
	stop := start(t, o, execSpec(), tp)
	tp.Append(things(0, 3000), nil)
	require.NoError(t, stop())
	require.Equal(t, sink.State{Written: 3000}, o.State())
	require.Len(t, server.records(), 3000)
}

// TestRowsOfTablesAreLogsToo: a table has no time, and slots are a list.
func TestRowsOfTablesAreLogsToo(t *testing.T) {
	spec := &gadget.Spec{Name: "top_rows", Description: "rows", Source: gadget.Source{
		Kind: gadget.Table, Size: 24, KeySize: 8, Fields: []gadget.Field{
			{Name: "n", Doc: "number", Size: 8, Kind: gadget.Uint},
			{Name: "slots", Doc: "slots", Offset: 8, Size: 16, Elem: 8, Kind: gadget.Slots},
		},
	}}
	server := &collector{}
	endpoint, _ := serve(t, server, "")
	o := sink.NewOTLP(sink.OTLPOptions{Session: sink.Session{Name: "all"}, Endpoint: endpoint, Insecure: true})
	tp := tape.New(tape.Options{})
	record := make([]byte, 24)
	record[0], record[8], record[16] = 5, 6, 7
	tp.Append(batchOf(0, record), nil)
	tp.Close()
	require.NoError(t, o.Run(t.Context(), headerOf(spec), tp.Read(tape.From{})))
	r := server.records()[0]
	require.Zero(t, r.GetTimeUnixNano())
	require.Equal(t, "n=5", r.GetBody().GetStringValue())
	slots := r.GetAttributes()[2].GetValue().GetArrayValue().GetValues()
	require.Len(t, slots, 2)
	require.EqualValues(t, 7, slots[1].GetIntValue())
	require.NotContains(t, values(r.GetAttributes()), "nodegadget.session.namespace")
}
