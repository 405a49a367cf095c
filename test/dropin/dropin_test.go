// SPDX-License-Identifier: Apache-2.0

// Package dropin proves that a gadget is a folder: it puts the example of
// docs/gadgets.md into a copy of the tree, builds it, and traces with it. No Go
// file of the copy is touched.
package dropin

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGadgetIsAFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: loading eBPF takes CAP_BPF and CAP_PERFMON")
	}
	if _, err := exec.LookPath("clang-19"); err != nil {
		t.Skip("needs clang-19, which `make test` installs")
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	tree := t.TempDir()
	for _, part := range []string{"charts", "cmd", "gadgets", "hack", "pkg"} {
		require.NoError(t, os.CopyFS(filepath.Join(tree, part), os.DirFS(filepath.Join(root, part))))
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(tree, file), data, 0o600))
	}
	folder := filepath.Join(tree, "gadgets", "trace_exit")
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "gadget.bpf.c"), example(t, filepath.Join(root, "docs", "gadgets.md")), 0o600))

	for _, arch := range []string{"x86_64", "arm64"} {
		in(t, tree, "bash", "hack/bpfcc.sh", "gadgets/trace_exit/gadget.bpf.c", "gadgets/trace_exit/gadget."+arch+".o")
	}
	in(t, tree, "go", "build", "-o", "kubectl-gadget", "./cmd/kubectl-gadget")
	assert.Contains(t, in(t, tree, "./kubectl-gadget", "catalog"), "show processes that end")
	traceExits(t, tree)
}

// traceExits wants to see one process end.
func traceExits(t *testing.T, tree string) {
	cmd := exec.CommandContext(t.Context(), "./kubectl-gadget", "trace", "exit", "--local", "-v", "-o", "json", "--comm", "true", "--max-events", "1")
	cmd.Dir = tree
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	// The line about the hook comes when the gadget is attached.
	said := bufio.NewScanner(stderr)
	for said.Scan() && !strings.HasPrefix(said.Text(), "hook exit: ") {
	}
	require.Equal(t, "hook exit: raw_tracepoint", said.Text())
	ended := exec.CommandContext(t.Context(), "/bin/true")
	require.NoError(t, ended.Run())
	var event struct {
		PID, PPID int
		Comm      string
	}
	require.NoError(t, json.NewDecoder(out).Decode(&event))
	assert.Equal(t, ended.Process.Pid, event.PID)
	assert.Equal(t, os.Getpid(), event.PPID)
	assert.Equal(t, "true", event.Comm)
	require.NoError(t, cmd.Wait())
}

// example is the first block of C code of a page.
func example(t *testing.T, page string) []byte {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "```c\n")
	require.True(t, ok, "%s has no C code", page)
	code, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	return []byte("/* SPDX-License-Identifier: GPL-2.0-only */\n" + code)
}

// in runs a command in a folder and returns what it prints.
func in(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return string(out)
}
