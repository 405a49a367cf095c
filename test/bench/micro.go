// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// microResult is a line of go test -bench.
type microResult struct {
	Package, Name string
	// Metrics are values by unit: ns/op, B/op, allocs/op and the test's own.
	Metrics map[string]float64
}

// runMicro runs the Go benchmarks of every stage, and of the stream.
func runMicro(ctx context.Context, opts options, progress io.Writer) ([]microResult, error) {
	args := []string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", opts.BenchTime, "./test/bench"}
	if !opts.Smoke {
		args = append(args, "./pkg/...")
	}
	fmt.Fprintf(progress, "go %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = progress
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running the Go benchmarks: %w: %s", err, lastLine(string(out)))
	}
	return parseMicro(string(out)), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// parseMicro reads go test's output; lines that are no results it passes over.
func parseMicro(text string) []microResult {
	var list []microResult
	pack := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "pkg: "); ok {
			pack = strings.TrimSpace(rest)
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		r := microResult{Package: pack, Name: benchName(fields[0]), Metrics: map[string]float64{}}
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				r.Metrics[fields[i+1]] = value
			}
		}
		if len(r.Metrics) > 0 {
			list = append(list, r)
		}
	}
	return list
}

// benchName is the name without Benchmark and the number of processors.
func benchName(field string) string {
	name := strings.TrimPrefix(field, "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.Atoi(name[i+1:]); err == nil {
			name = name[:i]
		}
	}
	return name
}
