// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script is a tool that sees nothing. It says so when it is interrupted.
func script(t *testing.T, begin, end string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	text := "#!/bin/sh\ntrap '" + end + "; exit 0' INT\n" + begin + "\nwhile :; do sleep 0.01; done\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
	return []string{path}
}

const (
	sayAttached = "echo node n: types >&2; echo hook h: tp_btf >&2"
	saySummary  = "echo 0 events, 0 lost >&2"
)

func testBencher(t *testing.T) *bencher {
	t.Helper()
	b, err := newBencher(options{Dir: t.TempDir(), Duration: 20 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() {
		b.close()
		_, err := os.Stat(b.dir)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
	return b
}

func TestMeasure(t *testing.T) {
	b := testBencher(t)
	load := testCase{Section: sectionLoad, Kind: "open", Rate: 1000}

	alone, err := b.measure(t.Context(), load)
	require.NoError(t, err)
	require.NotZero(t, alone.Flood.Calls)
	require.Zero(t, alone.Memory)

	load.Tool = &tool{Name: "ours", Ours: true, Alone: true, Blind: true, Match: never, Argv: script(t, sayAttached, saySummary)}
	blind, err := b.measure(t.Context(), load)
	require.NoError(t, err)
	require.Empty(t, blind.Unbalanced)
	require.NotZero(t, blind.Memory.Peak)
	require.NotZero(t, blind.Attach)

	load.Tool.Blind = false
	wrong, err := b.measure(t.Context(), load)
	require.NoError(t, err)
	require.Contains(t, wrong.Unbalanced, "0 seen + 0 lost is not")

	load.Tool.Argv = script(t, sayAttached+"; echo '{}'", saySummary)
	wrong, err = b.measure(t.Context(), load)
	require.NoError(t, err)
	require.Contains(t, wrong.Unbalanced, "1 events written, 0 in the summary")
}

func TestMeasurePeer(t *testing.T) {
	b := testBencher(t)
	peer := &tool{Name: "peer", Match: field(0, execComm), Headers: 1, Argv: script(t, "echo COMM; echo "+probeComm, "echo "+execComm+"; echo Lost 3 events; exit 7")}
	s, err := b.measure(t.Context(), testCase{Section: sectionLoad, Kind: "exec", Rate: 200, Tool: peer})
	require.NoError(t, err, "how others end is their affair")
	require.EqualValues(t, 1, s.Seen)
	require.EqualValues(t, 3, s.Lost)
}

func TestMeasureSessions(t *testing.T) {
	b := testBencher(t)
	agent := &tool{
		Name: "agent", Ours: true, Alone: true, Blind: true, Silent: true, Match: never, Sessions: 2,
		Agent: script(t, "echo level=INFO msg=serving >&2", ":"), Argv: script(t, sayAttached, saySummary),
	}
	s, err := b.measure(t.Context(), testCase{Section: sectionAgent, Kind: "open", Rate: 1000, Tool: agent})
	require.NoError(t, err)
	require.Empty(t, s.Unbalanced)

	agent.Sessions = 0
	s, err = b.measure(t.Context(), testCase{Section: sectionIdle, Kind: "open", Tool: agent})
	require.NoError(t, err)
	require.Zero(t, s.Flood.Calls)
	require.NotZero(t, s.Memory.Now)
}

func TestMeasureFailures(t *testing.T) {
	b := testBencher(t)
	load := testCase{Section: sectionLoad, Kind: "open", Rate: 1000, Tool: &tool{Name: "ours", Ours: true, Match: never}}
	for _, test := range []struct {
		argv []string
		want string
	}{
		{[]string{filepath.Join(t.TempDir(), "missing")}, "starting tool"},
		{script(t, "echo no kernel here >&2; exit 1", ":"), "it ended before it was attached: exit status 1: no kernel here"},
		{script(t, sayAttached+"; sleep 0.15; exit 0", ":"), "it ended before the load did: without an error"},
		{script(t, sayAttached, "echo out of ink >&2; exit 3"), "exit status 3: out of ink"},
		{script(t, sayAttached, ":"), errNoSummary.Error()},
	} {
		load.Tool.Argv = test.argv
		_, err := b.measure(t.Context(), load)
		require.ErrorContains(t, err, test.want)
	}
}

func TestStartup(t *testing.T) {
	b := testBencher(t)
	c := testCase{Section: sectionStartup, Kind: "exec", Tool: &tool{Name: "peer", Argv: script(t, "sleep 0.05; printf bench; echo probe", ":")}}
	s, err := b.measure(t.Context(), c)
	require.NoError(t, err)
	require.GreaterOrEqual(t, s.First, 50*time.Millisecond)
	require.Zero(t, s.Attach)
}
