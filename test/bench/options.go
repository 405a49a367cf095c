// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"time"
)

// options say what is measured, how long, and where the report goes.
type options struct {
	Smoke    bool
	List     bool
	Reps     int
	Duration time.Duration
	Only     *regexp.Regexp
	// Bin is the directory of this project's programs.
	Bin string
	// Dir is the parent of the directory for what the tools write.
	Dir string
	// Out is the report's file, "-" for stdout.
	Out       string
	JSON      string
	Micro     bool
	BenchTime string
}

const (
	defaultOut      = "docs/benchmarks.md"
	defaultReps     = 5
	defaultDuration = 3 * time.Second
	smokeDuration   = 300 * time.Millisecond
)

func parseFlags(args []string, stdout io.Writer) (options, error) {
	o := options{Only: regexp.MustCompile("")}
	fs := newFlagSet("bench")
	fs.BoolVar(&o.Smoke, "smoke", false, "check that everything works and books balance: short runs, one of each; the figures mean nothing")
	fs.BoolVar(&o.List, "list", false, "list the cases")
	fs.IntVar(&o.Reps, "reps", defaultReps, "runs of each case (with --smoke: 1)")
	fs.DurationVar(&o.Duration, "duration", defaultDuration, "of one load (with --smoke: 300ms)")
	fs.Func("only", "measure only cases whose name matches this `regexp` (see --list)", func(text string) (err error) {
		o.Only, err = regexp.Compile(text)
		return err
	})
	fs.StringVar(&o.Bin, "bin", "bin", "`directory` of kubectl-gadget and gadget-agent")
	fs.StringVar(&o.Dir, "dir", "", "`directory` for what the tools write, some 1.5 GB at a time (default: the system's for temporary files)")
	fs.StringVar(&o.Out, "out", "", "`file` of the report, - for stdout (default: "+defaultOut+", with --smoke or --only stdout)")
	fs.StringVar(&o.JSON, "json", "", "`file` for the samples themselves")
	fs.BoolVar(&o.Micro, "micro", true, "run the Go benchmarks too (with --smoke once, and only those of the stream)")
	fs.StringVar(&o.BenchTime, "benchtime", "1s", "`time` of each Go benchmark (with --smoke: 1x)")
	if err := parse(fs, args, stdout); err != nil {
		return o, err
	}
	set := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	o.complete(set)
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("there is no command %q, only flood and btf", fs.Arg(0))
	case o.Reps < 1 || o.Duration <= 0:
		return o, errors.New("--reps and --duration must be positive")
	}
	return o, nil
}

// complete fills in defaults that depend on other flags; set has those given.
func (o *options) complete(set map[string]bool) {
	if o.Smoke {
		if !set["reps"] {
			o.Reps = 1
		}
		if !set["duration"] {
			o.Duration = smokeDuration
		}
		if !set["benchtime"] {
			o.BenchTime = "1x"
		}
	}
	if o.Out != "" {
		return
	}
	o.Out = defaultOut
	if o.Smoke || set["only"] {
		o.Out = "-"
	}
}

// newFlagSet keeps the flag package from printing; see parse.
func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// parse explains the flags when asked to; a wrong one costs a line, not a page.
func parse(fs *flag.FlagSet, args []string, stdout io.Writer) error {
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(stdout)
		fs.Usage()
	}
	return err
}
