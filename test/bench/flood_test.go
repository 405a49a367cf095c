// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoop(t *testing.T) {
	n := 0
	call := func() bool { n++; return n%2 == 0 }
	r := floodOptions{Count: 101}.loop(call)
	require.Equal(t, 101, n)
	require.EqualValues(t, 101, r.Calls)
	require.EqualValues(t, 51, r.Failures)

	n = 0
	r = floodOptions{Rate: 1000, Duration: 50 * time.Millisecond}.loop(call)
	require.EqualValues(t, n, r.Calls)
	require.LessOrEqual(t, n, 50, "more than the rate allows")
	require.GreaterOrEqual(t, r.Elapsed, 50*time.Millisecond)

	require.InDelta(t, 500, floodResult{Calls: 50, Elapsed: 100 * time.Millisecond}.Rate(), 1e-9)
	require.Zero(t, floodResult{}.Rate())
}

// floodAgain runs a generator in a process of its own.
func floodAgain(t *testing.T, opts floodOptions) floodResult {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, opts.args()...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var r floodResult
	require.NoError(t, json.Unmarshal(out, &r))
	return r
}

func TestGenerators(t *testing.T) {
	dir := t.TempDir()
	program, err := writeTiny(dir, execComm)
	require.NoError(t, err)

	r := floodAgain(t, floodOptions{Kind: "exec", Comm: forkComm, File: program, Count: 20})
	require.EqualValues(t, 20, r.Calls)
	require.Zero(t, r.Failures)
	require.NotZero(t, r.CPU.sum())

	r = floodAgain(t, floodOptions{Kind: "open", Comm: openComm, File: program, Count: 1000})
	require.EqualValues(t, 1000, r.Calls)
	require.Zero(t, r.Failures)

	missing := filepath.Join(dir, "missing")
	for _, kind := range []string{"open", "exec"} {
		r = floodAgain(t, floodOptions{Kind: kind, Comm: "x", File: missing, Count: 10})
		require.EqualValues(t, 10, r.Failures, kind)
	}
}

func TestOpenAllocatesNothing(t *testing.T) {
	call, err := newCall(floodOptions{Kind: "open", File: os.DevNull})
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { call() }))
}

func TestTinyProgram(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		program, err := tinyProgram(arch)
		require.NoError(t, err)
		require.Less(t, len(program), 200)
		file, err := elf.NewFile(bytes.NewReader(program))
		require.NoError(t, err)
		require.Equal(t, exitZero[arch].machine, file.Machine)
		require.Equal(t, file.Progs[0].Vaddr+file.Progs[0].Filesz-uint64(len(exitZero[arch].code)), file.Entry)
	}
	_, err := tinyProgram("riscv64")
	require.ErrorContains(t, err, "riscv64")
}
