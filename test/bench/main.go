// SPDX-License-Identifier: Apache-2.0

// Command bench measures this project's gadgets next to other tools, on the
// same load, in one run:
//
//	go run ./test/bench                  the whole measurement, into docs/benchmarks.md
//	go run ./test/bench --smoke          does everything work, do the books balance?
//	go run ./test/bench --list           what would be measured
//	go run ./test/bench flood open …     one generator by itself
//	go run ./test/bench btf              tailoring kernels' types, and the bundle
//
// A generator makes a known number of calls and says at the end how many. A tool
// is started, the generator begins when the tool is attached, and the tool is
// stopped when the generator has ended; then what the tool wrote is counted. For
// this project seen + lost == sent must hold in every run, or bench fails.
//
// The way of a measurement through the files: options.go, plan.go (tool.go,
// peer.go), run.go (rig.go, process.go, flood.go), sample.go (tally.go, loss.go,
// books.go), startup.go (pty.go), then report.go (table.go, target.go). What btf
// does begins in btf.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// Children are told to die with the thread that started them, and a generator
// names its thread: main keeps its thread for itself.
func init() { runtime.LockOSThread() }

func main() {
	// Hearing interrupts matters also where a shell ignores them, in the background:
	// what is ignored here, the tools would ignore too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "flood":
			opts, err := parseFloodFlags(args[1:], stdout)
			if err != nil {
				return err
			}
			return flood(opts, stdout)
		case "btf":
			opts, err := parseBTFFlags(args[1:], stdout)
			if err != nil {
				return err
			}
			return benchBTF(ctx, opts, stdout, stderr)
		case unpackTask:
			return unpackCorpus(ctx, args[1:])
		}
	}
	opts, err := parseFlags(args, stdout)
	if err != nil {
		return err
	}
	return bench(ctx, opts, stdout, stderr)
}
