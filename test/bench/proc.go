// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is time of processors.
type cpuTime struct {
	User   time.Duration `json:"user_ns"`
	System time.Duration `json:"system_ns"`
}

func (c cpuTime) minus(other cpuTime) cpuTime {
	return cpuTime{User: max(c.User-other.User, 0), System: max(c.System-other.System, 0)}
}

// memory is what of a process is resident, in bytes. The kernel's other figure,
// of getrusage, begins with the parent's at the fork.
type memory struct {
	Now  uint64 `json:"rss"`
	Peak uint64 `json:"peak_rss"`
}

// tick is the unit of /proc/PID/stat, the same on all architectures we run on.
const tick = time.Second / 100

func (c cpuTime) sum() time.Duration { return c.User + c.System }

var errFormat = errors.New("unknown format")

// cpuOf is what a running process has used so far.
func cpuOf(pid int) (cpuTime, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cpuTime{}, err
	}
	return parseStat(string(text))
}

func parseStat(text string) (cpuTime, error) {
	// The name, in brackets, may have spaces and brackets itself.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const user, system = 11, 12
	if len(fields) <= system {
		return cpuTime{}, fmt.Errorf("/proc/PID/stat: %w", errFormat)
	}
	u, userErr := strconv.ParseInt(fields[user], 10, 64)
	s, systemErr := strconv.ParseInt(fields[system], 10, 64)
	if userErr != nil || systemErr != nil {
		return cpuTime{}, fmt.Errorf("/proc/PID/stat: %w", errFormat)
	}
	return cpuTime{User: time.Duration(u) * tick, System: time.Duration(s) * tick}, nil
}

// ownCPU is what this process and its children that have ended have used so far.
func ownCPU() (cpuTime, error) {
	var sum cpuTime
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		if err := unix.Getrusage(who, &usage); err != nil {
			return sum, fmt.Errorf("reading processor time: %w", err)
		}
		sum.User += time.Duration(usage.Utime.Nano())
		sum.System += time.Duration(usage.Stime.Nano())
	}
	return sum, nil
}

func memoryOf(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	return parseStatus(string(text))
}

func parseStatus(text string) (memory, error) {
	now, nowErr := kilobytes(text, "VmRSS")
	peak, peakErr := kilobytes(text, "VmHWM")
	return memory{Now: now, Peak: peak}, errors.Join(nowErr, peakErr)
}

// kilobytes finds a line "Key:   123 kB", as /proc has many, and returns bytes.
func kilobytes(text, key string) (uint64, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, key+":")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", key, errFormat)
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("%s: %w", key, errFormat)
}
