// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/kernel"
)

// patience is how long a program may take to start or to end.
const patience = 30 * time.Second

// command runs a program that sees nothing but the image's files and /proc. Mounts
// are its own, and end with it.
func command(ctx context.Context, root, user string, args ...string) *exec.Cmd {
	script := `root=$1 user=$2; shift 2; mkdir -p "$root/proc" && mount -t proc proc "$root/proc" && ` +
		`exec env -i /usr/sbin/chroot --userspec "$user" "$root" "$@"`
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-euc", script, "sh", root, user}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return cmd
}

// inRoot runs a program to its end and returns what it prints.
func inRoot(t *testing.T, root, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := command(ctx, root, "0:0", append([]string{program}, args...)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	require.NoError(t, cmd.Run(), "%s %v:\n%s%s", program, args, &out, &log)
	return out.String()
}

// logBuffer is read while a program still writes to it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start starts a server. The function that it returns terminates it and wants it
// to end well.
func start(t *testing.T, cmd *exec.Cmd) (*logBuffer, func()) {
	t.Helper()
	log := new(logBuffer)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = log, log, time.Second
	require.NoError(t, cmd.Start())
	return log, func() {
		t.Helper()
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait(), log.String())
	}
}

// checkServes wants the agent to start as the image starts it, and to end.
func checkServes(t *testing.T, root string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	log, stop := start(t, command(ctx, root, "0:0", "/gadget-agent", "serve", "--btf-install=/", "--node-name", "test"))
	require.Eventually(t, func() bool {
		info, err := os.Stat(filepath.Join(root, "run", "nodegadget", "agent.sock"))
		return err == nil && info.Mode().Type() == os.ModeSocket
	}, patience, 50*time.Millisecond, "no socket")
	stop()
	require.Contains(t, log.String(), "agent is ready")
}

// checkService wants the BTF service to list an archive's kernels, as the user
// that the image names.
func checkService(t *testing.T, root, archive string) {
	t.Helper()
	require.NoError(t, os.CopyFS(filepath.Join(root, "btfhub"), os.DirFS(archive)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	log, stop := start(t, command(ctx, root, "65532:65532", "/btfgen", "serve", "--archive", "/btfhub", "--listen", "127.0.0.1:0"))
	address := regexp.MustCompile(`address=(127\.0\.0\.1:\d+)`)
	require.Eventually(t, func() bool { return address.MatchString(log.String()) }, patience, 50*time.Millisecond, "no address")

	url := "http://" + address.FindStringSubmatch(log.String())[1] + "/v1/kernels"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, string(body))
	release, err := kernel.Release()
	require.NoError(t, err)
	require.Contains(t, string(body), release)
	stop()
}

// checkController wants the controller to start as the user that its pod has, and to
// say what it lacks here: a cluster.
func checkController(t *testing.T, root string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := command(ctx, root, "65532:65532", "/gadget-controller", "--namespace", "nodegadget").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "gadget-controller: finding the API server: ")
}
