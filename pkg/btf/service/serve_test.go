// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// serve runs a server on the loopback address until the context ends.
func serve(ctx context.Context, t *testing.T, s *Server) (address string, ended <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx, listener) }()
	return listener.Addr().String(), end
}

func TestServeEndsGracefully(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := server(t, Options{Concurrency: 1, RefreshInterval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := serve(ctx, t, s)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	url := "http://" + address

	require.True(t, s.limits.slots.TryAcquire(1)) // the upload has to wait
	answer := make(chan string, 1)
	upload := object(t)
	go func() {
		response, err := client.Post(url+"/v1/tailor"+query(focal), octetStream, bytes.NewReader(upload))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		all, _ := io.ReadAll(response.Body)
		answer <- string(all)
	}()
	require.Eventually(t, func() bool { return metric(t, s, "btfgen_requests_in_flight") == 2 }, 10*time.Second, time.Millisecond)
	cancel()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond, "no more connections")
	select {
	case err := <-ended:
		require.FailNow(t, "ended with a request running", "%v", err)
	default:
	}
	s.limits.slots.Release(1)
	require.Equal(t, string(small(t, focal, upload)), <-answer)
	require.NoError(t, <-ended)
}

func TestServeCutsOff(t *testing.T) {
	s := server(t, Options{Concurrency: 1, Grace: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := serve(ctx, t, s)
	require.True(t, s.limits.slots.TryAcquire(1))
	defer s.limits.slots.Release(1)
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /v1/tailor"+query(focal)+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return metric(t, s, "btfgen_requests_in_flight") == 2 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorContains(t, <-ended, "cut off after 50ms")
}

func TestServeNeedsItsListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener.Close()
	require.ErrorContains(t, server(t, Options{}).Serve(t.Context(), listener), "serving BTF")
}

// raw sends bytes and returns the status line and all that follows.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(answer)
}

func TestServeBoundsSlowRequests(t *testing.T) {
	s := server(t, Options{Timeout: 200 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := serve(ctx, t, s)
	answer := raw(t, address, "POST /v1/tailor"+query(focal)+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\nabc")
	require.Contains(t, answer, "408 Request Timeout")
	require.Contains(t, answer, string(slowUpload))
	cancel()
	require.NoError(t, <-ended)
}

func TestServeBoundsLargeRequests(t *testing.T) {
	s := server(t, Options{MaxObject: 1 << 10, MaxObjects: 1})
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := serve(ctx, t, s)
	for request, want := range map[string]string{
		"POST /v1/tailor" + query(focal) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n": "413 Request Entity Too Large",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n":                              "431 Request Header Fields Too Large",
		"GET /\x1b HTTP/1.1\r\nHost: x\r\n\r\n": "400 Bad Request",
	} {
		require.Contains(t, raw(t, address, request), want)
	}
	cancel()
	require.NoError(t, <-ended)
}

func TestServeRefreshes(t *testing.T) {
	dir := t.TempDir()
	archive, err := OpenArchive(dir)
	require.NoError(t, err)
	s := server(t, Options{Archive: archive, RefreshInterval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := serve(ctx, t, s)
	put(t, dir, focal.File(), pack(t, focal, rawBTF(t, contents[focal])))
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + address + "/readyz")
		require.NoError(t, err)
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}
