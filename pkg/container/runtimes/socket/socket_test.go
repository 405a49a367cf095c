// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host makes a root with a socket at run/x.sock, and another one outside of it.
func host(t *testing.T) (root, outside string) {
	t.Helper()
	root, outside = t.TempDir(), filepath.Join(t.TempDir(), "out.sock")
	for _, dir := range []string{"run", "var"} {
		require.NoError(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	for _, path := range []string{filepath.Join(root, "run/x.sock"), outside} {
		listener, err := net.Listen("unix", path)
		require.NoError(t, err)
		t.Cleanup(func() { listener.Close() })
	}
	return root, outside
}

// TestLinksAreTheHosts: absolute ones begin at its root, and none leads out of it.
func TestLinksAreTheHosts(t *testing.T) {
	root, outside := host(t)
	for name, target := range map[string]string{
		"var/run": "/run", "relative.sock": "run/x.sock", "absolute.sock": "/run/x.sock",
		"out.sock": outside, "up.sock": "../../../../../../../.." + outside, "loop": "loop", "dir.sock": "run",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(root, name)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "file.sock"), nil, 0o600))
	for _, test := range []struct{ path, want string }{
		{"/run/x.sock", ""},
		{"/var/run/x.sock", ""},
		{"/relative.sock", ""},
		{"/absolute.sock", ""},
		{"/../../run/x.sock", ""},
		{"/out.sock", "opening /out.sock: no such file or directory"},
		{"/up.sock", "opening /up.sock: no such file or directory"},
		{"/loop", "opening /loop: too many levels of symbolic links"},
		{"/none", "opening /none: no such file or directory"},
		{"/none/x.sock", "opening /none/x.sock: no such file or directory"},
		{"/run/x.sock/y", "opening /run/x.sock/y: not a directory"},
		{"/dir.sock", "opening /dir.sock: not a socket"},
		{"/file.sock", "opening /file.sock: not a socket"},
	} {
		s := Socket{Root: root, Path: test.path}
		conn, err := s.Dial(t.Context())
		if test.want == "" {
			require.NoError(t, err, test.path)
			conn.Close()
			continue
		}
		require.EqualError(t, err, test.want)
		_, err = s.Identity()
		require.EqualError(t, err, test.want)
	}
	_, err := Socket{Path: outside}.Dial(t.Context())
	require.NoError(t, err, "the own root")
}

func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	_, err = Socket{Path: path}.Dial(t.Context())
	require.EqualError(t, err, "connecting to "+path+": connect: connection refused")
}

// TestIdentity changes with the socket, so that a restart is noticed.
func TestIdentity(t *testing.T) {
	s := Socket{Path: filepath.Join(t.TempDir(), "s")}
	_, err := s.Identity()
	require.ErrorIs(t, err, fs.ErrNotExist)
	var before Identity
	for range 2 {
		listener, err := net.Listen("unix", s.Path)
		require.NoError(t, err)
		identity, err := s.Identity()
		require.NoError(t, err)
		again, err := s.Identity()
		require.NoError(t, err)
		require.Equal(t, identity, again)
		require.NotEqual(t, before, identity)
		before = identity
		listener.Close()
		time.Sleep(20 * time.Millisecond) // The file system's clock may be a coarse one.
	}
}

// TestConnect: a connection works as soon as there is a server, and again when there
// is another one.
func TestConnect(t *testing.T) {
	root := t.TempDir()
	conn, err := Socket{Root: root, Path: "/s"}.Connect()
	require.NoError(t, err)
	defer conn.Close()
	client := healthapi.NewHealthClient(conn)
	check := func() error {
		_, err := client.Check(t.Context(), &healthapi.HealthCheckRequest{})
		return err
	}
	for range 2 {
		require.Error(t, check())
		listener, err := net.Listen("unix", filepath.Join(root, "s"))
		require.NoError(t, err)
		server := grpc.NewServer()
		healthapi.RegisterHealthServer(server, health.NewServer())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(listener)
		}()
		require.Eventually(t, func() bool { return check() == nil }, 5*time.Second, 10*time.Millisecond)
		server.Stop()
		<-done
	}
}

// BenchmarkIdentity is what looking for a socket costs.
func BenchmarkIdentity(b *testing.B) {
	s := Socket{Root: b.TempDir(), Path: "/run/containerd/containerd.sock"}
	for b.Loop() {
		_, err := s.Identity()
		require.ErrorIs(b, err, fs.ErrNotExist)
	}
}
