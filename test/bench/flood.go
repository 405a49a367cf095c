// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the generators' threads and programs. The kernel keeps 15 bytes.
const (
	openComm  = "benchopen"
	execComm  = "benchexec"
	forkComm  = "benchfork"
	probeComm = "benchprobe"
)

// floodOptions say what a generator does: calls of one kind, until the duration
// has passed or the count is reached.
type floodOptions struct {
	// Kind is open or exec.
	Kind string
	// Comm is the name of the calling thread.
	Comm string
	// File is opened, or executed.
	File string
	// Rate is calls per second, 0 for as many as possible.
	Rate     float64
	Duration time.Duration
	Count    uint64
}

// floodResult is what a generator prints when it is done.
type floodResult struct {
	Calls    uint64        `json:"calls"`
	Failures uint64        `json:"failures"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	// CPU is what the calls have cost the generator and its children.
	CPU cpuTime `json:"cpu"`
}

// Rate is the calls per second that were made.
func (r floodResult) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Calls) / r.Elapsed.Seconds()
}

// args are the options as parseFloodFlags takes them.
func (o floodOptions) args() []string {
	return []string{
		"flood", o.Kind, "--comm", o.Comm, "--file", o.File, "--rate", fmt.Sprint(o.Rate),
		"--duration", o.Duration.String(), "--count", fmt.Sprint(o.Count),
	}
}

func parseFloodFlags(args []string, stdout io.Writer) (floodOptions, error) {
	var o floodOptions
	if len(args) == 0 || args[0] != "open" && args[0] != "exec" {
		return o, errors.New("flood what? open or exec")
	}
	o.Kind = args[0]
	comm := openComm
	if o.Kind == "exec" {
		comm = forkComm
	}
	fs := newFlagSet("bench flood " + o.Kind)
	fs.StringVar(&o.Comm, "comm", comm, "`name` of the calling thread")
	fs.StringVar(&o.File, "file", "", "existing `file` to "+o.Kind)
	fs.Float64Var(&o.Rate, "rate", 0, "calls per second (0: as many as possible)")
	fs.DurationVar(&o.Duration, "duration", 0, "when to end (0: only by --count)")
	fs.Uint64Var(&o.Count, "count", 0, "how many calls (0: end only by --duration)")
	if err := parse(fs, args[1:], stdout); err != nil {
		return o, err
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("flood %s takes no arguments, got %q", o.Kind, fs.Arg(0))
	case o.File == "":
		return o, fmt.Errorf("flood %s needs --file", o.Kind)
	case o.Rate < 0 || o.Duration < 0:
		return o, errors.New("--rate and --duration can't be negative")
	case o.Duration == 0 && o.Count == 0:
		return o, errors.New("flood would never end: give --duration or --count")
	}
	return o, nil
}

// flood makes the calls and prints the result.
func flood(opts floodOptions, stdout io.Writer) error {
	call, err := newCall(opts)
	if err != nil {
		return err
	}
	if err := nameThread(opts.Comm); err != nil {
		return err
	}
	before, err := ownCPU()
	if err != nil {
		return err
	}
	result := opts.loop(call)
	after, err := ownCPU()
	if err != nil {
		return err
	}
	result.CPU = after.minus(before)
	return json.NewEncoder(stdout).Encode(result)
}

// stride is how many calls are made between two looks at the clock, which cost
// as much as a tenth of a call.
const stride = 64

// loop makes calls, those that are due at a time, and sleeps until the next is.
func (o floodOptions) loop(call func() bool) floodResult {
	var r floodResult
	begin := time.Now()
	for {
		now := time.Since(begin)
		over := o.Duration > 0 && now >= o.Duration
		if over && o.Rate == 0 {
			return r
		}
		for due := o.due(r.Calls, now); r.Calls < due; r.Calls++ {
			if !call() {
				r.Failures++
			}
		}
		r.Elapsed = time.Since(begin)
		if over || o.Count > 0 && r.Calls >= o.Count {
			return r
		}
		o.rest(r, begin)
	}
}

// due is the number of calls up to which to go on without looking at the clock.
func (o floodOptions) due(calls uint64, now time.Duration) uint64 {
	due := calls + stride
	if o.Duration > 0 {
		now = min(now, o.Duration)
	}
	if o.Rate > 0 {
		due = min(due, uint64(now.Seconds()*o.Rate))
	}
	if o.Count > 0 {
		due = min(due, o.Count)
	}
	return due
}

// rest sleeps until the next call is due, or the end.
func (o floodOptions) rest(r floodResult, begin time.Time) {
	if o.Rate == 0 {
		return
	}
	next := time.Duration(float64(r.Calls+1) / o.Rate * float64(time.Second))
	if o.Duration > 0 {
		next = min(next, o.Duration)
	}
	if wait := next - time.Since(begin); wait > 0 {
		left := unix.NsecToTimespec(wait.Nanoseconds())
		// Waking early, by a signal, only means another look at the clock.
		_ = unix.Nanosleep(&left, nil)
	}
}
