// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

func TestListenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	used := "unix://" + filepath.Join(dir, "used.sock")
	listener, err := Listen(used, "")
	require.NoError(t, err)
	defer listener.Close()
	for _, test := range []struct{ name, address, group, want string }{
		{"nothing", "", "", `address "" is not of the form unix:///path/to/socket`},
		{"path", "/run/x.sock", "", `address "/run/x.sock" is not of the form unix:///path`},
		{"TCP", "tcp://0.0.0.0:80", "", `is not of the form unix:///path`},
		{"relative path", "unix://x.sock", "", `is not of the form unix:///path`},
		{"unknown group", "unix://" + dir + "/x.sock", "no-such-group-here", "looking up the socket's group: "},
		{"file", "unix://" + file, "", "exists and is not a socket: choose another path or remove it"},
		{"directory below a file", "unix://" + file + "/x.sock", "", "making the socket's directory: "},
		{"socket in use", used, "", "an agent serves " + filepath.Join(dir, "used.sock") + " already"},
		{"path too long for a socket", "unix://" + dir + "/" + longName, "", "listening: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Listen(test.address, test.group)
			require.ErrorContains(t, err, test.want)
		})
	}
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "precious", string(kept))
}

// longName doesn't fit into a socket's address.
const longName = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"

func TestSocketIsTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "nodegadget", "agent.sock")
	listener, err := Listen("unix://"+path, "")
	require.NoError(t, err)
	defer listener.Close()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, info.Mode())
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), dir.Mode().Perm())
}

func TestDirectoryThatWasThereKeepsItsPermissions(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "tmp")
	require.NoError(t, os.Mkdir(shared, 0o700))
	require.NoError(t, os.Chmod(shared, os.ModeSticky|0o777))
	before, err := os.Stat(shared)
	require.NoError(t, err)
	for _, group := range []string{"", "root"} {
		listener, err := Listen("unix://"+filepath.Join(shared, "agent.sock"), group)
		if group != "" && err != nil {
			t.Skipf("giving files to group %s: %v", group, err)
		}
		require.NoError(t, err)
		listener.Close()
		after, err := os.Stat(shared)
		require.NoError(t, err)
		require.Equal(t, before.Mode(), after.Mode())
	}
}

func TestSocketOfADeadAgentIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	dead.SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	require.FileExists(t, path)
	listener, err := Listen("unix://"+path, "")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.NoFileExists(t, path)
}

func TestServeEndsWithItsContext(t *testing.T) {
	address := "unix://" + filepath.Join(t.TempDir(), "agent.sock")
	listener, err := Listen(address, "")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- New(Options{Gadgets: catalog(t), Types: types}).Serve(ctx, listener) }()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	client := wire.NewAgentClient(conn)
	_, err = client.Info(t.Context(), &wire.InfoRequest{})
	require.NoError(t, err)
	stop()
	select {
	case err := <-served:
		require.NoError(t, err)
	case <-time.After(2 * shutdownTimeout):
		require.Fail(t, "the agent doesn't stop")
	}
	_, err = client.Info(t.Context(), &wire.InfoRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
}

func TestServeSaysThatItsListenerFails(t *testing.T) {
	listener, err := Listen("unix://"+filepath.Join(t.TempDir(), "agent.sock"), "")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.ErrorContains(t, New(Options{Gadgets: catalog(t)}).Serve(t.Context(), listener), "serving: ")
}
