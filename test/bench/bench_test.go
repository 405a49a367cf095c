// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// recordSize is about what trace open writes for a short path.
const recordSize = 112

// source is an agent without a kernel: it has records at once, and sends them in
// batches of one size.
type source struct {
	wire.UnimplementedAgentServer
	records, batch int
}

// Run sends all records, then the end.
func (s *source) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	spec := &gadget.Spec{Name: "trace_bench", Source: gadget.Source{Kind: gadget.Events, Size: recordSize}}
	header := &wire.Header{Protocol: wire.Current(), Node: &wire.Node{}, Gadget: wire.FromSpec(spec)}
	if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}}); err != nil {
		return err
	}
	record := make([]byte, recordSize)
	batch := &wire.Batch{}
	response := &wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: batch}}
	for sent := 0; sent < s.records; sent += int(batch.Count) {
		batch.Sequence, batch.Count, batch.Records = uint64(sent), 0, batch.Records[:0]
		for int(batch.Count) < min(s.batch, s.records-sent) {
			batch.Records = wire.AppendRecord(batch.Records, 0, record)
			batch.Count++
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	end := &wire.End{Records: uint64(s.records), Loss: &wire.Loss{}}
	return stream.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: end}})
}

// serveSource returns a client of the source, reached as kubectl-gadget --local
// reaches its agent.
func serveSource(tb testing.TB, s *source) *client.Conn {
	tb.Helper()
	server := grpc.NewServer(grpc.InitialWindowSize(wire.Window), grpc.InitialConnWindowSize(wire.Window))
	wire.RegisterAgentServer(server, s)
	listener := bufconn.Listen(1 << 20)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := client.DialWith(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) })
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
		server.Stop()
		require.NoError(tb, <-done)
	})
	return conn
}

// receive reads a run to its end and counts the records.
func receive(tb testing.TB, conn *client.Conn) (records, bytes int) {
	tb.Helper()
	run, err := conn.Run(tb.Context(), &wire.Start{Gadget: "trace_bench"})
	require.NoError(tb, err)
	for {
		message, err := run.Next()
		if errors.Is(err, io.EOF) {
			return records, bytes
		}
		require.NoError(tb, err)
		for _, record := range message.GetBatch().All() {
			records++
			bytes += len(record)
		}
	}
}

func TestStream(t *testing.T) {
	for _, batch := range []int{1, 7, 64} {
		conn := serveSource(t, &source{records: 1000, batch: batch})
		records, bytes := receive(t, conn)
		require.Equal(t, 1000, records)
		require.Equal(t, 1000*recordSize, bytes)
	}
}

// BenchmarkStream is the way from a raw record through gRPC to the client's hands,
// both ends in this process; an operation is one event.
func BenchmarkStream(b *testing.B) {
	for _, batch := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := &source{batch: batch}
			conn := serveSource(b, s)
			s.records = 1
			receive(b, conn)
			s.records = b.N
			b.SetBytes(recordSize)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.ResetTimer()
			records, _ := receive(b, conn)
			b.StopTimer()
			runtime.ReadMemStats(&after)
			require.Equal(b, b.N, records)
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/event")
		})
	}
}
