// SPDX-License-Identifier: Apache-2.0

package pidns

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// asked is the argument for which the test binary prints what First says.
const asked = "first"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == asked {
		fmt.Println(First())
		return
	}
	os.Exit(m.Run())
}

// TestFirst: a process further in knows it, whatever this one is in.
func TestFirst(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a PID namespace is made")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	ask := func(flags uintptr) string {
		cmd := exec.CommandContext(t.Context(), self, asked)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	here, err := First()
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(here, nil), ask(0))
	require.Equal(t, fmt.Sprintln(false, nil), ask(syscall.CLONE_NEWPID))
	// The kernel's own threads can be seen in the first namespace only.
	name, err := os.ReadFile("/proc/2/comm")
	require.Equal(t, err == nil && string(name) == "kthreadd\n", here)
}
