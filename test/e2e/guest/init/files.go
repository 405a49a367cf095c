// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"nodegadget.dev/test/e2e/guest/internal/boot"
)

// mount is a file system that the kernel makes.
type mount struct {
	target, kind, data string
	// optional ones are not in every kernel.
	optional bool
}

// early are needed to find the disk; they move there.
var early = []mount{
	{target: "/proc", kind: "proc"},
	{target: "/sys", kind: "sysfs"},
	{target: "/dev", kind: "devtmpfs"},
}

// late are the rest.
var late = []mount{
	{target: "/run", kind: "tmpfs", data: "mode=755"},
	{target: "/tmp", kind: "tmpfs"},
	{target: "/dev/pts", kind: "devpts", data: "gid=5,mode=620,ptmxmode=666"},
	{target: "/dev/shm", kind: "tmpfs"},
	{target: "/dev/mqueue", kind: "mqueue"},
	{target: "/sys/fs/cgroup", kind: "cgroup2"},
	{target: "/sys/fs/bpf", kind: "bpf", data: "mode=700"},
	{target: "/sys/kernel/tracing", kind: "tracefs"},
	{target: "/sys/kernel/debug", kind: "debugfs", optional: true},
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		// In sysfs the directory is there, or the kernel has no use for it.
		_ = os.MkdirAll(m.target, 0o755)
		err := unix.Mount(m.kind, m.target, m.kind, 0, m.data)
		if err != nil && !m.optional {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

func loadModules(names []string) error {
	for _, name := range names {
		if err := loadModule(filepath.Join(boot.ModuleDir, name)); err != nil {
			return fmt.Errorf("loading module %s: %w", name, err)
		}
	}
	return nil
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil // built in, or for a processor that this one isn't
	}
	return err
}

// enterDisk makes a disk the root directory, and copies the node's files there. The
// initramfs stays beneath.
func enterDisk(device string) error {
	const root = "/disk"
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := await(device, time.Minute); err != nil {
		return err
	}
	if err := unix.Mount(device, root, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", device, err)
	}
	if err := os.CopyFS(root, os.DirFS(boot.NodeDir)); err != nil {
		return err
	}
	for _, m := range early {
		if err := unix.Mount(m.target, root+m.target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", m.target, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root directory: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

// await waits for a file.
func await(file string, patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(file)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w after %v", err, patience)
		}
	}
}
