// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"nodegadget.dev/test/kernels/internal/task"
)

// vm is a guest: one kernel, all of its files in the initramfs, the serial
// console the only device.
type vm struct {
	Name    string // of the kernel in the matrix
	Arch    arch
	Kernel  string // path of the boot image
	Initrd  string
	Cmdline string // appended
	Memory  int    // MiB
	CPUs    int
	BTF     btfState
}

// run boots the guest and waits until it powers off or panics. Its console is
// written to a file by qemu itself, so nothing is lost if we are killed.
func (v vm) run(ctx context.Context, console *os.File) error {
	m, err := v.Arch.machine()
	if err != nil {
		return err
	}
	cmd, err := command(ctx, m.pkg, m.qemu, v.args(m)...)
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = console, &stderr

	// If we are killed the guest goes too. The kernel means the thread that
	// started it, hence the lock.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	if err := cmd.Run(); err != nil {
		return complaint(err, cmd, stderr.String())
	}
	return nil
}

func (v vm) args(m machine) []string {
	return append(m.args,
		// TCG works everywhere, and the same everywhere. One thread for all CPUs:
		// with one each, a CPU may execute code that another has just patched, and a
		// tracepoint that is switched on or off ends in an int3 oops or a dead guest.
		"-accel", "tcg,thread=single",
		"-m", strconv.Itoa(v.Memory),
		"-smp", strconv.Itoa(v.CPUs),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", // a panic ends qemu
		"-serial", "stdio",
		"-kernel", v.Kernel,
		"-initrd", v.Initrd,
		"-append", v.cmdline(m),
	)
}

// cmdline makes for a fast boot, a quiet console, and an end at the first oops.
func (v vm) cmdline(m machine) string {
	words := []string{
		"console=" + m.console, "quiet", "loglevel=3",
		"panic=-1", "oops=panic",
		"mitigations=off", "nokaslr", "tsc=reliable",
	}
	words = append(words, task.KernelParam+v.Name, task.BTFParam+string(v.BTF))
	if v.Cmdline != "" {
		words = append(words, v.Cmdline)
	}
	return strings.Join(words, " ")
}
