// SPDX-License-Identifier: Apache-2.0

// Command init is the first process of a guest. It makes a node of a machine that has
// nothing but a kernel, a disk with programs and the files of its initramfs: it loads
// modules, changes to the disk, brings up the network, runs containerd and the kubelet,
// and then runs what the harness asks for on the second serial port.
//
// It tells on the console what it does. When it can't go on it says why and switches
// the machine off.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"nodegadget.dev/test/e2e/guest/internal/boot"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: must be the first process of a virtual machine")
		os.Exit(2)
	}
	say("%v", run())
	_ = unix.IoctlSetInt(unix.Stdout, unix.TCSBRK, 1) // wait until it is out
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // ends qemu too
	select {}
}

// say writes a line to the console, with the time since the machine was switched on.
func say(format string, args ...any) {
	uptime, _ := os.ReadFile("/proc/uptime") // not there at first
	seconds, _, _ := strings.Cut(string(uptime), " ")
	fmt.Printf("init: %6s s  %s\n", seconds, fmt.Sprintf(format, args...))
}

// run returns why the machine can't go on.
func run() error {
	if err := mountAll(early); err != nil {
		return err
	}
	config, err := boot.Read(boot.ConfigFile)
	if err != nil {
		return err
	}
	if err := loadModules(config.Modules); err != nil {
		return err
	}
	if err := enterDisk("/dev/vda"); err != nil {
		return err
	}
	if err := setUp(config); err != nil {
		return err
	}
	say("%s is Linux %s", config.Name, release())
	return serve(config)
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(u.Release[:])
}
