// SPDX-License-Identifier: Apache-2.0

// Command guest is the /init of a kernel matrix guest: it makes the machine look
// like a small Linux system, runs the one task it finds in the initramfs, reports
// its exit code on the console and powers off.
//
// The task is a process of its own, for two reasons: a library that probes the
// kernel when it is loaded must find /proc mounted, and orphans must go to
// somebody who reaps them.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"nodegadget.dev/test/kernels/internal/task"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: must be the first process of a virtual machine")
		os.Exit(2)
	}
	for _, err := range setUp() {
		fmt.Println("init:", err) // the task will say what it misses
	}
	code, err := runTask()
	if err != nil {
		fmt.Println("init:", err)
		code = task.InitFailed
	}
	report(code)
	powerOff()
}

// runTask runs the task to its end and reaps whatever dies meanwhile.
func runTask() (int, error) {
	data, err := os.ReadFile(task.File)
	if err != nil {
		return 0, err
	}
	t, err := task.Unmarshal(data)
	if err != nil {
		return 0, err
	}

	cmd := exec.Command(task.Binary, t.Args...)
	cmd.Dir = task.Dir
	cmd.Env = append(environment(), t.Env...)
	// The console itself, not a pipe: nothing is buffered when the kernel dies.
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting task: %w", err)
	}

	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for task: %w", err)
		case pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == cmd.Process.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// environment is what every task gets: the usual, and which guest it is in.
func environment() []string {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Println("init:", err) // the task will miss the values
	}
	return []string{
		"PATH=/bin", "HOME=/root", "USER=root", "TMPDIR=/tmp", "TERM=dumb",
		task.KernelEnv + task.Param(string(cmdline), task.KernelParam),
		task.BTFEnv + task.Param(string(cmdline), task.BTFParam),
	}
}

// report writes the exit marker. It comes more than once, each on a line of its
// own and with the kernel told to be silent, so that one gets through whole.
func report(code int) {
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("1"), 0)
	marker := task.Exit{Code: code, Release: release()}.String()
	fmt.Print("\n" + strings.Repeat(marker+"\n", 3))
	_ = unix.IoctlSetInt(unix.Stdout, unix.TCSBRK, 1) // wait until it is out
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "0.unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// powerOff does not return: should the machine have no power switch, a reboot
// ends qemu too.
func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}
