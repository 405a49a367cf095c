// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/test/e2e/guest/internal/boot"
)

// port is both ends of a serial port.
type port struct {
	io.Reader
	io.Writer
}

func TestServeCommands(t *testing.T) {
	requests, ask := io.Pipe()
	answers, answer := io.Pipe()
	ended := make(chan error)
	go func() { ended <- serveCommands(port{requests, answer}, newChildren()) }()
	lines := bufio.NewReader(answers)
	for _, tc := range []struct {
		name string
		argv []string
		want boot.Response
	}{
		{name: "prints", argv: []string{"sh", "-c", "echo out; echo err >&2"}, want: boot.Response{Stdout: "out\n", Stderr: "err\n"}},
		{name: "fails", argv: []string{"sh", "-c", "exit 3"}, want: boot.Response{Code: 3}},
		{name: "is killed", argv: []string{"sh", "-c", "kill -9 $$"}, want: boot.Response{Code: 137}},
		// The child is init's when its parent has ended.
		{name: "leaves an orphan", argv: []string{"sh", "-c", "sleep 0.01 & echo out"}, want: boot.Response{Stdout: "out\n"}},
		{name: "isn't there", argv: []string{"/no/such/program"}, want: boot.Response{Error: "fork/exec /no/such/program: no such file or directory"}},
		{name: "is nothing", want: boot.Response{Error: "no command"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.ID = 7
			request, err := json.Marshal(boot.Request{ID: 7, Argv: tc.argv})
			require.NoError(t, err)
			_, err = ask.Write([]byte("half a line\n" + string(request) + "\n"))
			require.NoError(t, err)
			line, err := lines.ReadBytes('\n')
			require.NoError(t, err)
			var got boot.Response
			require.NoError(t, json.Unmarshal(line, &got))
			require.Equal(t, tc.want, got)
		})
	}
	require.NoError(t, ask.Close())
	require.ErrorContains(t, <-ended, "reading commands: EOF")
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	require.Contains(t, tail(file), "no such file")
	require.NoError(t, os.WriteFile(file, []byte("first\n"+strings.Repeat("line\n", 14)+"last\n"), 0o644))
	require.Equal(t, strings.Repeat("line\n", 14)+"last", tail(file))
}
