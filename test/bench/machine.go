// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where and when was measured. It has no name.
type machine struct {
	Date   time.Time
	CPU    string
	Cores  int
	Arch   string
	Kernel string
	Memory uint64
	// Load is the load average of the last minute when the measurement began.
	Load string
	// Files is the kind of file system that the tools wrote to.
	Files string
}

// fileSystems are the names of common ones.
var fileSystems = map[int64]string{
	unix.TMPFS_MAGIC: "tmpfs (memory)", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
	unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
}

func fileSystem(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "an unknown file system"
	}
	if name := fileSystems[int64(stat.Type)]; name != "" {
		return name
	}
	return fmt.Sprintf("file system %#x", stat.Type)
}

// thisMachine describes the machine, and the file system of dir.
func thisMachine(now time.Time, dir string) (machine, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return machine{}, fmt.Errorf("reading the kernel's release: %w", err)
	}
	m := machine{
		Date: now.UTC(), Cores: runtime.NumCPU(), Arch: runtime.GOARCH, Files: fileSystem(dir),
		Kernel: unix.ByteSliceToString(uts.Release[:]),
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	m.CPU = cpuModel(string(info))
	mem, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	if m.Memory, err = kilobytes(string(mem), "MemTotal"); err != nil {
		return m, err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, err
	}
	m.Load, _, _ = strings.Cut(string(load), " ")
	return m, nil
}

// cpuModel is the name of the processor; arm64 kernels don't tell it.
func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unnamed processor"
}

// version is which version of a program was measured.
type version struct {
	Program, Version string
}

// versions asks the programs, and for Debian's the package, which is more exact.
func versions(ctx context.Context, bin string) []version {
	list := []version{
		{"Go", runtime.Version()},
		{"kubectl-gadget", firstLine(ctx, filepath.Join(bin, "kubectl-gadget"), "--version")},
	}
	for _, p := range peersOf("open") {
		if _, err := p.find(); err != nil {
			continue
		}
		text := firstLine(ctx, "dpkg-query", "-W", "-f", "${Version}", p.pack)
		if text == "" {
			text = firstLine(ctx, p.program, "--version")
		}
		list = append(list, version{p.pack, text})
	}
	return list
}

// firstLine is the first line that a program prints, empty if it fails.
func firstLine(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
