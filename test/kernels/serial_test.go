// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const marker = "NODEGADGET-EXIT 0 6.1.0-56-cloud-amd64\n"

// consoles are what guests may print, and what to make of it.
var consoles = []struct {
	name    string
	console string
	verdict string // part of the error, empty for none
	passed  int
	failed  []string
	skipped []skip
}{
	{name: "plain", console: "hello\n" + marker},
	{name: "terminal", console: "hello\r\n" + strings.ReplaceAll(marker, "\n", "\r\n")},
	{name: "no end of line", console: "hello" + strings.TrimSpace(marker)},
	{name: "power down after", console: marker + marker + "[    3.85] x\n[    3.858923] reboot: Power down\n"},
	{name: "nothing", verdict: "without an exit marker"},
	{name: "cut marker", console: "NODEGADGET-EXIT 0\nNODEGADGET-EX", verdict: "without an exit marker"},
	{name: "talk of a marker", console: "NODEGADGET-EXIT 0 6.1 is what init writes\n", verdict: "without an exit marker"},
	{name: "exit code", console: "NODEGADGET-EXIT 3 6.1.0\n", verdict: "exit code 3"},
	{name: "init failed", console: "init: no task\nNODEGADGET-EXIT 125 6.1.0\n", verdict: "could not be run"},
	{
		name:    "panic",
		console: "[    4.4] x\n[    4.443000] Kernel panic - not syncing: sysrq triggered crash\n[    4.44] y\n",
		verdict: "guest panicked: sysrq triggered crash",
	},
	{
		name:    "panic after the marker",
		console: marker + "[    4.443000] Kernel panic - not syncing: Attempted to kill init!\n",
		verdict: "guest panicked: Attempted to kill init!",
	},
	{
		name: "go test",
		console: `=== RUN   TestA
--- PASS: TestA (0.77s)
=== RUN   TestB
=== RUN   TestB/one
    b_test.go:5: first
    b_test.go:6: kprobes: needs CONFIG_KPROBES
=== RUN   TestB/two
=== PAUSE TestB/two
=== CONT  TestB/two
    b_test.go:9: wrong
=== NAME  TestB
    b_test.go:11: about B
--- FAIL: TestB (0.01s)
    --- SKIP: TestB/one (0.00s)
    --- FAIL: TestB/two (0.00s)
=== RUN   TestC
--- SKIP: TestC (0.00s)
FAIL

NODEGADGET-EXIT 1 6.1.0
`,
		verdict: "exit code 1",
		passed:  1,
		failed:  []string{"TestB", "TestB/two"},
		skipped: []skip{{"TestB/one", "kprobes: needs CONFIG_KPROBES"}, {"TestC", ""}},
	},
	{
		name:    "output without end of line",
		console: "=== RUN   TestA\nsome output--- PASS: TestA (0.00s)\n" + marker,
		passed:  1,
	},
	{
		name: "kernel in between",
		console: "=== RUN   TestA\n--- PA[    1.234567] bpf: warning\nSS: TestA (0.00s)\n" +
			"[    1.3] \n=== RUN   Te[    2.000001][  T123] first\n[    2.000002][  T123] second\nstB\n" +
			"    b_test.go:1: why\n--- SKIP: TestB (0.00s)\nNODEGADGET-EX[    3.000001] third\nIT 0 6.1.0\n",
		passed:  1,
		skipped: []skip{{"TestB", "why"}},
	},
	{
		name:    "not a result",
		console: "    x_test.go:1: saw --- FAIL: of another\n--- FAIL: not a result\n" + marker,
	},
}

func TestParseSerial(t *testing.T) {
	for _, tc := range consoles {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseSerial(strings.NewReader(tc.console))
			if err != nil {
				t.Fatal(err)
			}
			verdict := got.verdict()
			if (verdict == nil) != (tc.verdict == "") || verdict != nil && !strings.Contains(verdict.Error(), tc.verdict) {
				t.Errorf("verdict is %v, want %q", verdict, tc.verdict)
			}
			if got.Passed != tc.passed || !slices.Equal(got.Failed, tc.failed) || !slices.Equal(got.Skipped, tc.skipped) {
				t.Errorf("transcript is %+v", got)
			}
		})
	}
}

func TestParseSerialRelease(t *testing.T) {
	got, err := parseSerial(strings.NewReader("x\n" + marker))
	if err != nil || got.Exit.Release != "6.1.0-56-cloud-amd64" {
		t.Errorf("release is %q, error %v", got.Exit.Release, err)
	}
}

func TestParseSerialReadError(t *testing.T) {
	broken := errors.New("broken")
	if _, err := parseSerial(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}
