// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// example is a sample in which everything went well.
func example() sample {
	return sample{
		Flood: floodResult{Calls: 1_000_000, Elapsed: 3 * time.Second, CPU: cpuTime{User: time.Second, System: 2 * time.Second}},
		Seen:  1_000_000, Attach: 123 * time.Millisecond, First: 145 * time.Millisecond,
		Total: cpuTime{User: time.Second, System: time.Second}, Load: cpuTime{User: 800 * time.Millisecond, System: 700 * time.Millisecond},
		Memory: memory{Now: 30_000_000, Peak: 35_000_000},
	}
}

// exampleResults have a row of every kind.
func exampleResults() *results {
	const dir = "/tmp/bench-1"
	ours := ourTools("elsewhere/bin", "open")
	quick, lossy, alone := example(), example(), example()
	alone.Flood.Elapsed, alone.Flood.CPU = 2*time.Second, cpuTime{System: 2 * time.Second}
	quick.Flood.Elapsed = 2500 * time.Millisecond
	lossy.Seen, lossy.Lost, lossy.Others = 999_990, 12, 5
	wrong := example()
	wrong.Seen, wrong.Skipped = 999_999, 3
	wrong.Unbalanced = "999999 seen + 0 lost is not 1000000 sent"
	peer := &tool{Name: "opensnoop", Argv: []string{"/usr/sbin/opensnoop"}}
	one := agentTool("elsewhere/bin", dir+"/agent.sock", nameAgent1, 1)
	many := agentTool("elsewhere/bin", dir+"/agent.sock", nameAgent16, 16)
	load := func(t *tool, samples ...sample) *row {
		return &row{testCase: testCase{Section: sectionLoad, Kind: "open", Tool: t}, Samples: samples}
	}
	return &results{
		Opts: options{Reps: 3, Duration: 3 * time.Second, Bin: "elsewhere/bin"}, Dir: dir,
		Machine: machine{
			Date: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), CPU: "Fast(R) CPU", Cores: 2, Arch: "amd64",
			Kernel: "6.18.44", Memory: 25_000_000_000, Load: "0.10", Files: "ext4",
		},
		Tools: []version{{"Go", "go1.26"}, {"kubectl-gadget", "kubectl-gadget version v1"}, {"libbpf-tools", "0.26"}},
		Rows: []*row{
			{testCase: testCase{Section: sectionLoad, Kind: "open", Rate: sessionRate}, Samples: []sample{alone}},
			load(nil, alone, alone, alone),
			load(ours[0], example(), quick, lossy),
			load(ours[2], wrong),
			{testCase: load(peer).testCase, Samples: []sample{lossy}, Failures: []string{"not attached after 30s"}},
			{testCase: testCase{Section: sectionAgent, Kind: "open", Rate: sessionRate, Tool: one}, Samples: []sample{example()}},
			{testCase: testCase{Section: sectionAgent, Kind: "open", Rate: sessionRate, Tool: many}, Samples: []sample{example()}},
			{testCase: testCase{Section: sectionIdle, Kind: "open", Tool: one}, Samples: []sample{example()}},
			{testCase: testCase{Section: sectionStartup, Kind: "exec", Tool: ourTools("elsewhere/bin", "exec")[0]}, Samples: []sample{example(), quick}},
		},
		Skipped: []string{"bpftrace of open: bpftrace is not installed (Debian: bpftrace)"},
		Micro: []microResult{
			{Package: "nodegadget.dev/pkg/print", Name: "JSON", Metrics: map[string]float64{"ns/op": 512.3, "B/op": 0, "allocs/op": 0, "MB/s": 79.31}},
		},
	}
}

func TestReport(t *testing.T) {
	const golden = "testdata/report.md"
	got := exampleResults().report()
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "go test ./test/bench -update rewrites it")
	require.NotContains(t, got, "/tmp/", "a path of this machine")
	require.NotContains(t, got, "elsewhere", "a path of this machine")
}

func TestVerdict(t *testing.T) {
	res := exampleResults()
	require.ErrorIs(t, res.verdict(t.Output()), errVerdict, "books don't balance")
	res.Rows[3].Samples[0].Unbalanced = ""
	require.NoError(t, res.verdict(t.Output()), "another tool may fail")
	res.Rows[2].Failures = []string{"it ended"}
	require.ErrorIs(t, res.verdict(t.Output()), errVerdict, "ours may not")
}

func TestWrite(t *testing.T) {
	res := exampleResults()
	dir := t.TempDir()
	res.Opts.Out, res.Opts.JSON = filepath.Join(dir, "docs", "benchmarks.md"), filepath.Join(dir, "samples.json")
	require.NoError(t, res.write(io.Discard))
	first, err := os.ReadFile(res.Opts.Out)
	require.NoError(t, err)
	samples, err := os.ReadFile(res.Opts.JSON)
	require.NoError(t, err)
	require.Contains(t, string(samples), `"case": "load open flat out: nodegadget JSON"`)

	around := "# Mine\n\n" + string(first) + "\nMore of mine.\n"
	require.NoError(t, os.WriteFile(res.Opts.Out, []byte(around), 0o600))
	require.NoError(t, res.write(io.Discard))
	second, err := os.ReadFile(res.Opts.Out)
	require.NoError(t, err)
	require.Equal(t, around, string(second), "the same report changes nothing")

	require.NoError(t, os.WriteFile(res.Opts.Out, []byte("# No markers\n"), 0o600))
	require.ErrorIs(t, res.write(io.Discard), errMarkers)
}

func TestThisMachine(t *testing.T) {
	m, err := thisMachine(time.Now(), t.TempDir())
	require.NoError(t, err)
	require.NotZero(t, m.Cores)
	require.NotZero(t, m.Memory)
	require.NotEmpty(t, m.Kernel)
	require.NotEmpty(t, m.Load)
	require.NotEmpty(t, m.Files)
	require.Contains(t, fileSystem("/missing/directory"), "unknown")
}
