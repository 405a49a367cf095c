// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodegadget.dev/pkg/container"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// crio is a runtime that has CRI and nothing else, and one container.
type crio struct {
	criapi.UnimplementedRuntimeServiceServer
	version, container string
	hang               atomic.Bool
}

func (c *crio) Version(ctx context.Context, _ *criapi.VersionRequest) (*criapi.VersionResponse, error) {
	if c.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &criapi.VersionResponse{RuntimeName: "cri-o", RuntimeVersion: c.version}, nil
}

func (c *crio) ContainerStatus(ctx context.Context, request *criapi.ContainerStatusRequest) (*criapi.ContainerStatusResponse, error) {
	if c.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if request.GetContainerId() != c.container {
		return nil, status.Error(codes.NotFound, "not here")
	}
	return &criapi.ContainerStatusResponse{Status: &criapi.ContainerStatus{
		Id: c.container, Metadata: &criapi.ContainerMetadata{Name: "name-" + c.container},
	}}, nil
}

func (c *crio) PodSandboxStatus(context.Context, *criapi.PodSandboxStatusRequest) (*criapi.PodSandboxStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "not here")
}

// serve makes a runtime answer at a socket until stop is called or the test ends; nil
// is a server that knows nothing.
func serve(tb testing.TB, path string, c *crio) (stop func()) {
	tb.Helper()
	require.NoError(tb, os.MkdirAll(filepath.Dir(path), 0o755))
	listener, err := net.Listen("unix", path)
	require.NoError(tb, err)
	server := grpc.NewServer()
	if c != nil {
		criapi.RegisterRuntimeServiceServer(server, c)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	stop = func() { server.Stop(); <-done }
	tb.Cleanup(stop)
	return stop
}

func newResolver(tb testing.TB, opts Options) *Resolver {
	tb.Helper()
	r := New(opts)
	tb.Cleanup(r.Close)
	return r
}

// found waits until a container is found: sockets are looked for now and then only.
func found(tb testing.TB, r *Resolver, id string) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		info, err := r.Lookup(tb.Context(), id)
		return err == nil && info.Name == "name-"+id
	}, 5*time.Second, 10*time.Millisecond)
}

const usual = "/run/k3s/containerd/containerd.sock, /run/k0s/containerd.sock, /var/snap/microk8s/common/run/containerd.sock, " +
	"/run/crio/crio.sock, /run/containerd/containerd.sock, /run/dockershim.sock, /run/cri-dockerd.sock"

// TestRuntimeThatComesLater is found at its usual place below the host's root, and
// missed when it's gone.
func TestRuntimeThatComesLater(t *testing.T) {
	root := t.TempDir()
	r := newResolver(t, Options{Root: root})
	require.Equal(t, "no container runtime at "+usual, r.Name())
	for _, version := range []string{"1.35.0", "1.36.1"} {
		_, err := r.Lookup(t.Context(), "c1")
		require.EqualError(t, err, "no container runtime at "+usual)

		stop := serve(t, filepath.Join(root, "run/crio/crio.sock"), &crio{version: version, container: "c1"})
		found(t, r, "c1")
		require.Equal(t, "cri-o "+version+" at /run/crio/crio.sock", r.Name())
		_, err = r.Lookup(t.Context(), "c2")
		require.ErrorIs(t, err, container.ErrNotFound)

		stop()
		r.look(t.Context(), true)
	}
}

// TestRuntimeThatIsReplaced while its socket stays: first nobody answers, then
// another version does.
func TestRuntimeThatIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := newResolver(t, Options{Sockets: []string{"unix://" + path}})
	stop := serve(t, path, &crio{version: "1", container: "c1"})
	found(t, r, "c1")

	stop()
	dead, err := net.Listen("unix", path)
	require.NoError(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	require.Eventually(t, func() bool {
		r.look(t.Context(), true)
		return strings.Contains(r.Name(), "connection refused")
	}, 5*time.Second, 10*time.Millisecond)
	require.Contains(t, r.Name(), "cri-o 1 at "+path+" (doesn't answer: ")
	_, err = r.Lookup(t.Context(), "c1")
	require.ErrorContains(t, err, "connection refused")
	require.NotErrorIs(t, err, container.ErrNotFound)

	require.NoError(t, os.Remove(path))
	serve(t, path, &crio{version: "2", container: "c1"})
	found(t, r, "c1")
	r.look(t.Context(), true)
	require.Equal(t, "cri-o 2 at "+path, r.Name())
}

// TestAllRuntimesAreAsked: that nobody knows a container is only said if all could
// be asked.
func TestAllRuntimesAreAsked(t *testing.T) {
	root := t.TempDir()
	r := newResolver(t, Options{Root: root, Timeout: 200 * time.Millisecond})
	first := &crio{version: "1", container: "c1"}
	serve(t, filepath.Join(root, "run/k3s/containerd/containerd.sock"), first)
	serve(t, filepath.Join(root, "run/crio/crio.sock"), &crio{version: "2", container: "c2"})
	found(t, r, "c1")
	found(t, r, "c2")
	_, err := r.Lookup(t.Context(), "c3")
	require.ErrorIs(t, err, container.ErrNotFound)
	require.Equal(t, "cri-o 1 at /run/k3s/containerd/containerd.sock, cri-o 2 at /run/crio/crio.sock", r.Name())

	first.hang.Store(true)
	found(t, r, "c2")
	_, err = r.Lookup(t.Context(), "c3")
	require.ErrorContains(t, err, "cri-o 1 at /run/k3s/containerd/containerd.sock: asking for container")
	require.NotErrorIs(t, err, container.ErrNotFound)
}

// TestRuntimeThatComesAfterAnother is found by Run, and isn't waited for meanwhile.
func TestRuntimeThatComesAfterAnother(t *testing.T) {
	root := t.TempDir()
	r := newResolver(t, Options{Root: root, Timeout: time.Minute})
	serve(t, filepath.Join(root, "run/crio/crio.sock"), &crio{version: "1", container: "c1"})
	found(t, r, "c1")
	other := &crio{version: "2", container: "c2"}
	other.hang.Store(true)
	serve(t, filepath.Join(root, "run/k3s/containerd/containerd.sock"), other)
	_, err := r.Lookup(t.Context(), "c2")
	require.ErrorIs(t, err, container.ErrNotFound)
	other.hang.Store(false)
	r.look(t.Context(), true)
	found(t, r, "c2")
}

// TestWhyThereIsNone is said on one line.
func TestWhyThereIsNone(t *testing.T) {
	root := t.TempDir()
	serve(t, filepath.Join(root, "run/crio/crio.sock"), nil)
	require.NoError(t, os.WriteFile(filepath.Join(root, "run/dockershim.sock"), nil, 0o600))
	r := newResolver(t, Options{Root: root})
	_, err := r.Lookup(t.Context(), "c1")
	require.EqualError(t, err, r.Name())
	require.Contains(t, r.Name(), "no container runtime: /run/crio/crio.sock: ")
	require.Contains(t, r.Name(), "unknown service runtime.v1.RuntimeService; opening /run/dockershim.sock: not a socket")
	require.NotContains(t, r.Name(), "\n")
}

// TestLookupsDontOutlastTheirContext, and don't blame the runtime for that.
func TestLookupsDontOutlastTheirContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := &crio{version: "1", container: "c1"}
	c.hang.Store(true)
	serve(t, path, c)
	r := newResolver(t, Options{Sockets: []string{path}, Timeout: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.Lookup(ctx, "c1")
	require.Error(t, err)
	require.Equal(t, "no container runtime at "+path, r.Name())
	c.hang.Store(false)
	found(t, r, "c1")
}

// TestRunLogsWhatItFinds, once.
func TestRunLogsWhatItFinds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var log bytes.Buffer
	r := newResolver(t, Options{Sockets: []string{path}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.look(t.Context(), true)
	r.look(t.Context(), true)
	serve(t, path, &crio{version: "1"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	require.Eventually(t, func() bool { return strings.HasPrefix(r.Name(), "cri-o 1 at ") }, 5*time.Second, time.Millisecond)
	cancel()
	<-done
	require.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
	require.Contains(t, log.String(), `found="no container runtime at `)
	require.Contains(t, log.String(), `found="cri-o 1 at `)
}

// TestConcurrentLookups while sockets come and go.
func TestConcurrentLookups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := newResolver(t, Options{Sockets: []string{path}})
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 100 {
				_, _ = r.Lookup(t.Context(), "c1")
				_ = r.Name()
			}
		})
	}
	for range 5 {
		stop := serve(t, path, &crio{version: "1", container: "c1"})
		time.Sleep(10 * time.Millisecond)
		stop()
	}
	wait.Wait()
	serve(t, path, &crio{version: "1", container: "c1"})
	found(t, r, "c1")
}
