// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nodegadget.dev/pkg/btf/layout"
)

// The way of this measurement through the files: btfcorpus.go (what is tailored),
// btftools.go (programs that tailor and build), btfsize.go and btfgrow.go (bundles),
// btflookup.go, btfagent.go, then btfreport.go and btftarget.go.

// btfOptions are those of bench btf.
type btfOptions struct {
	// Corpus is an archive in BTFHub's layout.
	Corpus string
	Reps   int
	Smoke  bool
	// Bin is the directory of this project's programs, Dir the parent of ours.
	Bin, Dir string
	// Out is the report's file, "-" for stdout.
	Out string
}

func parseBTFFlags(args []string, stdout io.Writer) (btfOptions, error) {
	var o btfOptions
	fs := newFlagSet("bench btf")
	fs.StringVar(&o.Corpus, "corpus", defaultCorpus(), "`directory` of full BTF, as make corpus makes it")
	fs.IntVar(&o.Reps, "reps", defaultReps, "runs of each measurement (with --smoke: 1)")
	fs.BoolVar(&o.Smoke, "smoke", false, "check that everything works, with three kernels; the figures mean nothing")
	fs.StringVar(&o.Bin, "bin", "bin", "`directory` of btfgen, kubectl-gadget and gadget-agent")
	fs.StringVar(&o.Dir, "dir", "", "`directory` for unpacked BTF, some 0.5 GB (default: the system's for temporary files)")
	fs.StringVar(&o.Out, "out", "", "`file` of the report, - for stdout (default: "+defaultOut+", with --smoke stdout)")
	if err := parse(fs, args, stdout); err != nil {
		return o, err
	}
	set := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if o.Smoke && !set["reps"] {
		o.Reps = 1
	}
	if o.Out == "" {
		o.Out = map[bool]string{false: defaultOut, true: "-"}[o.Smoke]
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("btf takes no arguments, got %q", fs.Arg(0))
	case o.Reps < 1:
		return o, errors.New("--reps must be positive")
	}
	return o, nil
}

// defaultCorpus is where make corpus puts it; empty where there is no home.
func defaultCorpus() string {
	cache := os.Getenv("NODEGADGET_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(home, ".cache", "nodegadget")
	}
	return filepath.Join(cache, "corpus")
}

// btfSample is what one round measured. What was not measured is zero.
type btfSample struct {
	// PerFile and Bpftool are a process a file, Raw and Packed one process for all.
	PerFile, Bpftool, Raw, Packed usage
	// Corpus and Grown are look-ups in the two bundles.
	Corpus, Grown lookups
	// Agents are those of agentCases.
	Agents []agentSample
}

// btfResults are all that the report is made of.
type btfResults struct {
	Opts    btfOptions
	Machine machine
	Tools   []version
	// Kernels is how many there are in the corpus that was measured.
	Kernels int
	// Gadgets is how many objects were tailored for, the witnesses apart.
	Gadgets int
	// Floor is the least that can be seen of another process's peak, in bytes.
	Floor   uint64
	Samples []btfSample
	// Sizes are of the corpus, Grown is the synthetic bundle.
	Sizes []size
	Grown grown
	// Commands are what was run: a name and a command, in turn.
	Commands [][2]string
	Skipped  []string
	// Failures are ours, and the reason for failing in the end.
	Failures []string
	// Dir is our temporary directory, which the report doesn't name.
	Dir string
}

// btfBench makes the measurements.
type btfBench struct {
	opts btfOptions
	self string
	// dir is ours, and gone at the end.
	dir     string
	kernels []layout.Kernel
	// gadgets and witnesses are paths of objects.
	gadgets, witnesses []string
	// bpftool is its path, empty if it isn't there.
	bpftool string
	agents  []agentCase
	res     *btfResults
}

// benchBTF does everything: it measures, writes the report, and fails if our own
// programs did.
func benchBTF(ctx context.Context, opts btfOptions, stdout, progress io.Writer) error {
	b, err := newBTFBench(opts)
	if err != nil {
		return err
	}
	defer b.close()
	if b.res.Machine, err = thisMachine(time.Now(), b.dir); err != nil {
		return err
	}
	b.res.Tools = b.versions(ctx)
	if err := b.prepare(ctx, progress); err != nil {
		return err
	}
	for _, part := range []func(context.Context, io.Writer) error{b.runTools, b.compare, b.runLookups, b.runAgents} {
		if err := part(ctx, progress); err != nil {
			return err
		}
	}
	if err := b.res.write(stdout); err != nil {
		return err
	}
	return b.res.verdict(progress)
}

// newBTFBench looks for what is needed and makes our directory.
func newBTFBench(opts btfOptions) (*btfBench, error) {
	program := filepath.Join(opts.Bin, "btfgen")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("there is no %s: run make build, or give --bin", program)
	}
	kernels, err := corpusKernels(opts.Corpus)
	if err != nil {
		return nil, err
	}
	if opts.Smoke {
		kernels = some(kernels, smokeKernels)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	dir, err := os.MkdirTemp(opts.Dir, "bench-btf-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for results: %w", err)
	}
	res := &btfResults{Opts: opts, Dir: dir, Kernels: len(kernels), Samples: make([]btfSample, opts.Reps)}
	return &btfBench{opts: opts, self: self, dir: dir, kernels: kernels, res: res}, nil
}

func (b *btfBench) close() { _ = os.RemoveAll(b.dir) }

// path is a file of ours.
func (b *btfBench) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

// program is one of this project's.
func (b *btfBench) program(name string) string { return filepath.Join(b.opts.Bin, name) }

func (b *btfBench) fail(err error) { b.res.Failures = append(b.res.Failures, err.Error()) }

func (res *btfResults) write(stdout io.Writer) error {
	text := res.report()
	if res.Opts.Out == "-" {
		_, err := io.WriteString(stdout, text)
		return err
	}
	return replaceReport(res.Opts.Out, btfReport, text)
}

// verdict fails for our own faults. A target that is missed is none.
func (res *btfResults) verdict(w io.Writer) error {
	for _, text := range res.Failures {
		fmt.Fprintf(w, "FAIL  %s\n", text)
	}
	for _, text := range res.Skipped {
		fmt.Fprintf(w, "skipped  %s\n", text)
	}
	if len(res.Failures) > 0 {
		return errors.New("not everything worked")
	}
	return nil
}
