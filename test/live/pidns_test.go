// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/pidns"
)

// TestSnapshotInAPIDNamespace has no processes from outside of it, and says so. From
// outside, those inside are seen, and there is nothing to say.
func TestSnapshotInAPIDNamespace(t *testing.T) {
	needRoot(t)
	const notice = "only the processes of this container are seen"
	inside, said := snapshot(t, syscall.CLONE_NEWPID)
	require.Contains(t, said, notice)
	require.NotContains(t, inside, os.Getpid())
	require.Len(t, inside, 1, "the namespace has one process, which takes the snapshot")

	first, err := pidns.First()
	require.NoError(t, err)
	if !first {
		return // This test is in a container itself.
	}
	all, said := snapshot(t, 0)
	require.NotContains(t, said, notice)
	require.Contains(t, all, os.Getpid())
}

// snapshot takes one in a process that is made with these flags, and returns the ids of
// the processes in it and what was said.
func snapshot(t *testing.T, flags uintptr) (pids []int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t), "cli", "snapshot", "process", "--local", "-o", "json")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s", &stderr)
	for line := range strings.Lines(stdout.String()) {
		var row struct{ PID int }
		require.NoError(t, json.Unmarshal([]byte(line), &row), line)
		pids = append(pids, row.PID)
	}
	return pids, stderr.String()
}
