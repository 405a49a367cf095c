// SPDX-License-Identifier: Apache-2.0

// Command testsummary runs Go tests and keeps count of them, so that several
// runs end in one honest line: how many tests passed, failed and were skipped,
// and why.
//
//	testsummary [flags] test ARGS...   run "go test ARGS"
//	testsummary [flags] read FILE...   count what is in logs of "go test -v"
//	testsummary [flags] sum            count what is in the tally
//
// With -tally FILE the results are also appended to FILE, and sum adds up what
// is in it. A test that ran more than once counts once, by its worst result; one
// that was skipped here and passed there has passed. With -strict, a skip that
// no line of the file of -allowed covers is a failure.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// errFailed says that tests failed; what and why has been printed already.
var errFailed = errors.New("tests failed")

type options struct {
	tally, allowed string
	strict         bool
}

func main() {
	var opts options
	flag.StringVar(&opts.tally, "tally", "", "append results to this `file`, or sum it up")
	flag.StringVar(&opts.allowed, "allowed", "", "`file` of skips that are allowed")
	flag.BoolVar(&opts.strict, "strict", false, "fail on skips that are not allowed")
	flag.Parse()
	if err := run(opts, flag.Args(), os.Stdout); err != nil {
		if !errors.Is(err, errFailed) {
			fmt.Fprintln(os.Stderr, "testsummary:", err)
		}
		os.Exit(1)
	}
}

func run(opts options, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("want test, read or sum")
	}
	switch args[0] {
	case "test":
		results, err := goTest(args[1:], out)
		return finish(opts, results, err, out)
	case "read":
		results, err := readLogs(args[1:])
		if err == nil && len(results) == 0 {
			err = errors.New("no tests in the logs")
		}
		return finish(opts, results, err, out)
	case "sum":
		return sum(opts, out)
	}
	return fmt.Errorf("unknown command %q: want test, read or sum", args[0])
}

// finish reports one run and adds it to the tally.
func finish(opts options, results []result, runErr error, out io.Writer) error {
	if opts.tally != "" {
		if err := appendTally(opts.tally, results); err != nil {
			return err
		}
	}
	if err := report(opts, results, out); err != nil && runErr == nil {
		runErr = err
	}
	return runErr
}

// sum reports what the tally holds.
func sum(opts options, out io.Writer) error {
	results, err := readTally(opts.tally)
	if err != nil {
		return err
	}
	if len(results) == 0 {
		fmt.Fprintln(out, count(results))
		return errFailed
	}
	return report(opts, results, out)
}

// report names what failed and what was skipped, and counts all.
func report(opts options, results []result, out io.Writer) error {
	var allowed []allowance
	if opts.allowed != "" {
		var err error
		if allowed, err = readAllowances(opts.allowed); err != nil {
			return err
		}
	}
	results = merge(results)
	bad := false
	for _, r := range results {
		switch {
		case r.outcome == failed:
			bad = true
			fmt.Fprintf(out, "failed: %s\n", r.name)
		case r.outcome == skipped && (!opts.strict || covered(allowed, r)):
			fmt.Fprintf(out, "skipped: %s: %s\n", r.name, r.reason)
		case r.outcome == skipped:
			bad = true
			fmt.Fprintf(out, "skipped, which is not allowed: %s: %s\n", r.name, r.reason)
		}
	}
	fmt.Fprintln(out, count(results))
	if bad {
		return errFailed
	}
	return nil
}
