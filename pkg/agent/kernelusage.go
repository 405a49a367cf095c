// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// kernelUsage is what this process's programs and maps take of the kernel.
type kernelUsage struct {
	programs, maps int
	memory         uint64
	// runTime is only counted while kernel.bpf_stats_enabled is set.
	runTime time.Duration
}

// readKernelUsage looks at all that this process has open, which is all that it has
// loaded. The directory is /proc/self/fdinfo.
func readKernelUsage(dir string) (kernelUsage, error) {
	var usage kernelUsage
	files, err := os.ReadDir(dir)
	if err != nil {
		return usage, fmt.Errorf("reading open files: %w", err)
	}
	// A map or program may be open more than once.
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			continue // It was closed meanwhile.
		}
		usage.add(string(text), seen)
	}
	return usage, nil
}

func (u *kernelUsage) add(text string, seen map[string]bool) {
	kind, id := "", ""
	numbers := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if name == "prog_id" || name == "map_id" {
			kind, id = name, value
		}
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			numbers[name] = n
		}
	}
	// Links name their program too, but take no memory worth speaking of.
	memory, ok := numbers["memlock"]
	if !ok || kind == "" || seen[kind+id] {
		return
	}
	seen[kind+id] = true
	u.memory += memory
	if kind == "map_id" {
		u.maps++
		return
	}
	u.programs++
	u.runTime += time.Duration(numbers["run_time_ns"])
}

// resident is how much memory this process takes, in bytes.
func resident() (uint64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("reading resident memory: %w", err)
	}
	var total, pages uint64
	if _, err := fmt.Sscan(string(text), &total, &pages); err != nil {
		return 0, fmt.Errorf("reading resident memory: %w", err)
	}
	return pages * uint64(os.Getpagesize()), nil
}
