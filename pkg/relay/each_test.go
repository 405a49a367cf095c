// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// TestEach: an agent that comes, one that is replaced, one that goes, and the end.
func TestEach(t *testing.T) {
	fleet := NewFleet(func(string) (*tls.Config, error) { return &tls.Config{MinVersion: tls.VersionTLS13}, nil })
	defer fleet.Close()
	fleet.Set([]Agent{{Node: "a", Address: "127.0.0.1:1"}, {Node: "b", Problem: "its pod is Pending"}})
	var mu sync.Mutex
	var began, ended []string
	problems := map[string]string{}
	run := func(ctx context.Context, node string, agent wire.AgentClient) {
		_, err := agent.Info(ctx, &wire.InfoRequest{})
		mu.Lock()
		began = append(began, node)
		problems[node] = err.Error()
		if node == "b" && status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		mu.Unlock()
		<-ctx.Done()
		mu.Lock()
		ended = append(ended, node)
		mu.Unlock()
	}
	see := func(wantBegan, wantEnded []string) {
		t.Helper()
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(slices.Sorted(slices.Values(began)), wantBegan) && slices.Equal(slices.Sorted(slices.Values(ended)), wantEnded)
		}, patience, time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fleet.Each(ctx, run)
	}()
	see([]string{"a", "b"}, nil)
	mu.Lock()
	require.Contains(t, problems["b"], "its pod is Pending")
	mu.Unlock()
	fleet.Set([]Agent{{Node: "a", Address: "127.0.0.1:1"}, {Node: "b", Address: "127.0.0.1:2"}, {Node: "c", Address: "127.0.0.1:3"}})
	see([]string{"a", "b", "b", "c"}, []string{"b"})
	fleet.Set([]Agent{{Node: "b", Address: "127.0.0.1:2"}})
	see([]string{"a", "b", "b", "c"}, []string{"a", "b", "c"})
	cancel()
	<-done
	see([]string{"a", "b", "b", "c"}, []string{"a", "b", "b", "c"})
}
