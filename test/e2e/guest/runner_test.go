// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/guest/internal/boot"
)

// fakeGuest answers every request with what answer returns, unless that is nil.
func fakeGuest(t *testing.T, answer func(boot.Request) *boot.Response) *Guest {
	t.Helper()
	g := &Guest{Machine: &cluster.Machine{Name: "node3"}}
	g.runner.socket = filepath.Join(t.TempDir(), "commands")
	listener, err := net.Listen("unix", g.runner.socket)
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				var request boot.Request
				if json.Unmarshal(lines.Bytes(), &request) != nil {
					continue
				}
				if response := answer(request); response != nil {
					// What an earlier question was answered with comes first, cut short.
					text, _ := json.Marshal(boot.Response{ID: request.ID - 1, Stdout: "late"})
					line, _ := json.Marshal(response)
					_, _ = conn.Write([]byte(string(text[5:]) + "\n" + string(text) + "\n" + string(line) + "\n"))
				}
			}
		}
	}()
	return g
}

func TestExec(t *testing.T) {
	for _, tc := range []struct {
		name     string
		response boot.Response
		want     string
		err      string
	}{
		{name: "prints", response: boot.Response{Stdout: "text\n"}, want: "text\n"},
		{name: "fails", response: boot.Response{Code: 3, Stdout: "half", Stderr: "why\n"}, want: "half", err: "node3: program argument: exit code 3: why"},
		{name: "can't be run", response: boot.Response{Error: "not found"}, err: "node3: program argument: not found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := fakeGuest(t, func(request boot.Request) *boot.Response {
				response := tc.response
				response.ID = request.ID
				return &response
			})
			// The second one comes over a new connection.
			for range 2 {
				got, err := g.Exec(t.Context(), "program", "argument")
				require.Equal(t, tc.want, got)
				if tc.err == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, tc.err)
				}
			}
		})
	}
}

func TestExecGivesUp(t *testing.T) {
	g := fakeGuest(t, func(boot.Request) *boot.Response { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := g.Exec(ctx, "sleep", "1000")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
