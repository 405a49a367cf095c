// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// leftovers names processes, this one included, that still have something of a
// cluster: its cgroups, or a mount of its files. What has neither, as a network
// without a process, the kernel has removed.
func leftovers(opts Options) ([]string, error) {
	g, err := findGroup(opts.name())
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var left []string
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if _, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe")); err != nil {
			continue // ended, and nobody has asked how
		}
		// A process that ends meanwhile has nothing.
		mounts, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "mountinfo"))
		if g.holds(pid) || bytes.Contains(mounts, []byte(opts.Dir+"/")) {
			name, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "comm"))
			left = append(left, fmt.Sprintf("process %d (%s)", pid, bytes.TrimSpace(name)))
		}
	}
	return left, nil
}
