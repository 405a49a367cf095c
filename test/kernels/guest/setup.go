// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"nodegadget.dev/test/kernels/internal/task"
)

// mount is a file system of the guest.
type mount struct{ target, fstype string }

// mounts are in the order they need each other.
var mounts = []mount{
	{"/proc", "proc"},
	{"/sys", "sysfs"},
	{"/dev", "devtmpfs"},
	{"/dev/pts", "devpts"},
	{"/dev/shm", "tmpfs"},
	{"/tmp", "tmpfs"},
	{"/run", "tmpfs"},
	{"/sys/kernel/tracing", "tracefs"},
	{"/sys/kernel/debug", "debugfs"},
	{"/sys/fs/bpf", "bpf"},
	{"/sys/fs/cgroup", "cgroup2"},
}

// setUp makes the guest a usable system as far as this kernel can, and returns
// what it could not do.
func setUp() []error {
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, m := range mounts {
		try("mounting "+m.target, m.mount())
	}
	try("hiding /sys/kernel/btf", hideBTF())
	try("linking /dev/fd", os.Symlink("/proc/self/fd", "/dev/fd"))
	try("naming host", unix.Sethostname([]byte("guest")))
	try("bringing lo up", loopbackUp())
	try("linking busybox applets", exec.Command("/bin/busybox", "--install", "-s", "/bin").Run())
	return errs
}

func (m mount) mount() error {
	// In sysfs and friends the directory is there, or the kernel has no use for it.
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	return unix.Mount(m.fstype, m.target, m.fstype, 0, "")
}

// hideBTF makes user space believe in a kernel without BTF, if asked to. The
// kernel itself still has it.
func hideBTF() error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if task.Param(string(cmdline), task.BTFParam) != task.BTFHidden {
		return nil
	}
	return unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, "")
}

// loopbackUp lets programs talk to 127.0.0.1.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
