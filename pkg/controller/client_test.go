// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"google.golang.org/grpc"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

// tick is a gadget that counts, every few milliseconds.
func tick(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	header := &wire.Header{Protocol: wire.Current(), BootTime: time.Now().UnixNano(), Gadget: &wire.Gadget{Name: "trace_x", Source: &wire.Source{
		Kind: uint32(gadget.Events), Size: 8,
		Fields: []*wire.Field{{Name: "time", Size: 8, Kind: uint32(gadget.Uint), Semantic: string(gadget.Timestamp)}},
	}}}
	if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}}); err != nil {
		return err
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if request, err := stream.Recv(); err != nil || request.GetStop() != nil {
				return
			}
		}
	}()
	for n := uint64(0); ; n++ {
		b := &wire.Batch{Sequence: n, Count: 1, Records: wire.AppendRecord(nil, 0, binary.LittleEndian.AppendUint64(nil, n))}
		if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}}); err != nil {
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-stopped:
			return stream.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Records: n + 1}}})
		}
	}
}

// TestClientSurvivesBrokenConnections: the plugin's client against a whole controller,
// over a connection that breaks again and again. No record is missing or comes twice.
func TestClientSurvivesBrokenConnections(t *testing.T) {
	r := start(t)
	port := r.enrolAs("node1", tick)
	_, err := r.client.CoreV1().Pods(namespace).Create(t.Context(), agentPod("a", "node1", "127.0.0.1", port, nil), metav1.CreateOptions{})
	require.NoError(t, err)
	roots, err := pki.NewRoots([]byte(published(t, r.client)))
	require.NoError(t, err)
	var mu sync.Mutex
	var last net.Conn
	conn, err := client.DialRelay(client.RelayOptions{
		Dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.address)
			mu.Lock()
			defer mu.Unlock()
			last = conn
			return conn, err
		},
		TLS:     pki.ClientConfig(nil, roots, pki.Controller),
		Headers: func(context.Context) (http.Header, error) { return http.Header{"Authorization": {"Bearer admin"}}, nil },
	})
	require.NoError(t, err)
	defer conn.Close()
	var run *client.Run
	require.Eventually(t, func() bool {
		run, err = conn.Run(t.Context(), &wire.Start{Gadget: "trace_x"})
		return err == nil
	}, patience, 10*time.Millisecond, "the agent is found")
	next := uint64(0)
	for breaks := 1; next < 500; {
		message, err := run.Next()
		require.NoError(t, err)
		for _, record := range message.GetBatch().All() {
			require.Equal(t, next, binary.LittleEndian.Uint64(record))
			next++
		}
		if next > uint64(100*breaks) {
			breaks++
			mu.Lock()
			require.NoError(t, last.Close())
			mu.Unlock()
		}
	}
	run.Stop()
	for err == nil {
		_, err = run.Next()
	}
	require.True(t, run.Ended())
	require.GreaterOrEqual(t, run.Missed().Breaks, 4)
	require.Zero(t, run.Missed().Restarts)
	require.Zero(t, run.Missed().Records)
	require.Zero(t, run.Counts().Lost())
}
