// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// bencher makes measurements.
type bencher struct {
	opts options
	// self is this program, which is also the generators.
	self string
	// dir is ours, and gone at the end.
	dir string
	// targets and probes are the files that are opened or executed, by kind.
	targets, probes map[string]string
}

// newBencher lays out the files that the generators use.
func newBencher(opts options) (*bencher, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	dir, err := os.MkdirTemp(opts.Dir, "bench-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for results: %w", err)
	}
	b := &bencher{opts: opts, self: self, dir: dir, targets: map[string]string{}, probes: map[string]string{}}
	if err := b.layOut(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bencher) close() { _ = os.RemoveAll(b.dir) }

func (b *bencher) layOut() (err error) {
	b.targets["open"] = filepath.Join(b.dir, "target")
	b.probes["open"] = filepath.Join(b.dir, probeComm+strings.Repeat("-", 200))
	for _, path := range []string{b.targets["open"], b.probes["open"]} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return fmt.Errorf("making a file to open: %w", err)
		}
	}
	if b.targets["exec"], err = writeTiny(b.dir, execComm); err != nil {
		return err
	}
	b.probes["exec"], err = writeTiny(b.dir, probeComm)
	return err
}

// socket is where agents under test listen.
func (b *bencher) socket() string { return filepath.Join(b.dir, "agent.sock") }

// measure runs one case once, in a directory that is gone afterwards: nothing of
// what a tool wrote shall be written to the disk during the next measurement.
func (b *bencher) measure(ctx context.Context, c testCase) (sample, error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return sample{}, fmt.Errorf("making a directory for results: %w", err)
	}
	defer os.RemoveAll(dir)
	switch {
	case c.Section == sectionStartup:
		return b.startup(ctx, c, dir)
	case c.Tool == nil:
		flood, err := b.flood(ctx, c)
		return sample{Flood: flood}, err
	}
	r, err := b.assemble(ctx, c.Tool, c.Kind, dir)
	if err != nil {
		return sample{}, err
	}
	defer r.kill()
	s := sample{Attach: time.Since(r.main.begun) - settle}
	if s.Flood, err = b.load(ctx, c); err != nil {
		return s, err
	}
	if err := r.check(); err != nil {
		return s, err
	}
	if s.Memory, err = memoryOf(r.main.cmd.Process.Pid); err != nil {
		return s, fmt.Errorf("reading memory: %w", err)
	}
	if err := r.dismantle(); err != nil {
		return s, err
	}
	return s, s.read(r)
}

// load applies what the case asks for, and waits until the tool has had time for
// the last of it.
func (b *bencher) load(ctx context.Context, c testCase) (floodResult, error) {
	if c.Section == sectionIdle {
		time.Sleep(b.opts.Duration)
		return floodResult{}, nil
	}
	result, err := b.flood(ctx, c)
	time.Sleep(grace)
	return result, err
}

// flood runs the generator of a case.
func (b *bencher) flood(ctx context.Context, c testCase) (floodResult, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*b.opts.Duration+time.Minute)
	defer cancel()
	opts := floodOptions{Kind: c.Kind, Comm: openComm, File: b.targets[c.Kind], Rate: c.Rate, Duration: b.opts.Duration}
	if c.Kind == "exec" {
		opts.Comm = forkComm
	}
	cmd := exec.CommandContext(ctx, b.self, opts.args()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	var result floodResult
	out, err := cmd.Output()
	if err != nil {
		return result, fmt.Errorf("running the generator: %w", err)
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return result, fmt.Errorf("reading the generator's result: %w", err)
	}
	if result.Calls == 0 || result.Failures > 0 {
		return result, fmt.Errorf("%d of the generator's %d calls failed", result.Failures, result.Calls)
	}
	return result, nil
}
