// SPDX-License-Identifier: Apache-2.0

// Package containerdtest runs a containerd of a test's own: the machine's program,
// with directories and a socket that nobody else uses.
package containerdtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/stretchr/testify/require"
)

// PauseImage is the name of the image that sandboxes are made of; see ImportImage.
const PauseImage = "nodegadget.test/pause:1"

// startTimeout is generous: the tests of other packages run meanwhile.
const startTimeout = 30 * time.Second

// config leaves out what needs devices or takes long. The limit of the OOM score is
// for tests in containers, which may not lower it.
const config = `version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.nri.v1.nri"%s]
[grpc]
  address = %q
[ttrpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
`

// Options of Start.
type Options struct {
	// CRI says that pods will be run.
	CRI bool
	// Dir is where the socket is made; "" is a directory of the test's own.
	Dir string
}

// Daemon is a running containerd.
type Daemon struct {
	// Socket is the path of its socket.
	Socket string

	config  string
	log     string
	command *exec.Cmd
}

// Start runs one until the test ends, or skips the test where there can't be any.
func Start(tb testing.TB, opts Options) *Daemon {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: containerd changes owners of files")
	}
	if _, err := exec.LookPath("containerd"); err != nil {
		tb.Skip("needs containerd: Debian's package containerd has it")
	}
	dir := tb.TempDir()
	if opts.Dir == "" {
		opts.Dir = dir
	}
	disabled := `, "io.containerd.grpc.v1.cri"`
	if opts.CRI {
		disabled = ""
	}
	d := &Daemon{
		Socket: filepath.Join(opts.Dir, "containerd.sock"),
		config: filepath.Join(dir, "config.toml"),
		log:    filepath.Join(dir, "log"),
	}
	content := fmt.Sprintf(config, filepath.Join(dir, "root"), filepath.Join(dir, "state"), disabled, d.Socket, d.Socket+".ttrpc", PauseImage)
	require.NoError(tb, os.WriteFile(d.config, []byte(content), 0o600))
	tb.Cleanup(func() { d.Stop(tb) })
	d.Restart(tb)
	return d
}

// Restart stops it, if it runs, and starts it again.
func (d *Daemon) Restart(tb testing.TB) {
	tb.Helper()
	d.Stop(tb)
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(tb, err)
	defer log.Close()
	d.command = exec.Command("containerd", "--config", d.config)
	d.command.Stdout, d.command.Stderr = log, log
	// It ends with the test, however that ends.
	d.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(tb, d.command.Start())
	c := d.Client(tb)
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	if _, err := c.IsServing(ctx); err != nil {
		text, _ := os.ReadFile(d.log)
		require.NoError(tb, err, "containerd says:\n%s", text)
	}
}

// Stop ends it. Its socket's file stays.
func (d *Daemon) Stop(tb testing.TB) {
	tb.Helper()
	if d.command == nil {
		return
	}
	require.NoError(tb, d.command.Process.Signal(syscall.SIGTERM))
	_ = d.command.Wait() // its exit status is about the signal
	d.command = nil
}

// Client is connected to it until the test ends.
func (d *Daemon) Client(tb testing.TB) *client.Client {
	tb.Helper()
	c, err := client.New(d.Socket)
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close() })
	return c
}
