// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be what the program starts itself as.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "flood" || os.Args[1] == unpackTask) {
		main()
		return
	}
	hearInterrupts()
	os.Exit(m.Run())
}

// hearInterrupts undoes what a shell does to programs in the background: what is
// ignored here, the tools that tests start would ignore too.
func hearInterrupts() {
	if signal.Ignored(os.Interrupt) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"bogus"}, `there is no command "bogus", only flood and btf`},
		{[]string{"--reps", "0"}, "--reps and --duration must be positive"},
		{[]string{"--only", "("}, "error parsing regexp"},
		{[]string{"flood"}, "flood what? open or exec"},
		{[]string{"flood", "close"}, "flood what? open or exec"},
		{[]string{"flood", "open"}, "flood open needs --file"},
		{[]string{"flood", "exec", "--file", "/bin/true"}, "give --duration or --count"},
		{[]string{"flood", "open", "--file", "x", "--rate", "-1"}, "can't be negative"},
		{[]string{"flood", "open", "--file", "x", "y"}, `takes no arguments, got "y"`},
	} {
		require.ErrorContains(t, run(t.Context(), test.args, t.Output(), t.Output()), test.want)
	}
	require.ErrorContains(t, ready(options{Bin: t.TempDir()}), map[bool]string{true: "run make build", false: "root"}[os.Geteuid() == 0])
}

func TestOptions(t *testing.T) {
	full, err := parseFlags(nil, t.Output())
	require.NoError(t, err)
	require.Equal(t, defaultOut, full.Out)
	require.Equal(t, defaultReps, full.Reps)

	smoke, err := parseFlags([]string{"--smoke", "--duration", "1s"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, "-", smoke.Out, "a smoke run must not replace figures")
	require.Equal(t, 1, smoke.Reps)
	require.Equal(t, "1s", smoke.Duration.String())
	require.Equal(t, "1x", smoke.BenchTime)

	some, err := parseFlags([]string{"--only", "exec"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, "-", some.Out, "a partial run must not replace figures")
}

func TestPlan(t *testing.T) {
	bin := t.TempDir()
	opts, err := parseFlags([]string{"--bin", bin, "--only", "nodegadget|agent|alone"}, t.Output())
	require.NoError(t, err)
	names := map[string]bool{}
	for _, c := range newPlan(opts, "/socket").Cases {
		require.False(t, names[c.name()], "two cases called %s", c.name())
		names[c.name()] = true
	}
	require.Contains(t, names, "load open flat out: generator alone")
	require.Contains(t, names, "load exec 1,000/s: nodegadget JSON")
	require.NotContains(t, names, "idle: agent, 1 session", "there is no gadget-agent")

	require.NoError(t, os.WriteFile(filepath.Join(bin, "gadget-agent"), nil, 0o700))
	// Every target has its cases, also in a smoke run.
	for _, smoke := range []bool{false, true} {
		opts.Smoke = smoke
		res := &results{Opts: opts}
		for _, c := range newPlan(opts, "/socket").Cases {
			res.Rows = append(res.Rows, &row{testCase: c, Samples: []sample{example()}})
		}
		for _, target := range targets {
			require.NotZero(t, target.Value(res).N, target.What)
		}
	}
}
