// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"nodegadget.dev/test/e2e/guest/internal/boot"
)

// cgroupRoot is where cgroups are, daemons the cgroup of what isn't in pods.
const (
	cgroupRoot = "/sys/fs/cgroup"
	daemons    = cgroupRoot + "/system"
)

// maxFiles is what a container runtime may open.
const maxFiles = 1 << 20

// setUp makes the machine one that a node's daemons find usable.
func setUp(config boot.Config) error {
	if err := mountAll(late); err != nil {
		return err
	}
	// So that mounts can propagate into pods.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts: %w", err)
	}
	for _, dir := range []string{"/run/lock", "/run/netns", daemons} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, v := range environment {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxFiles, Max: maxFiles}); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(config.Name)); err != nil {
		return err
	}
	if err := delegate(); err != nil {
		return err
	}
	return connect(config)
}

var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root",
	// Emulated, a garbage collection takes long, and there is memory for fewer.
	"GOGC=400",
}

// delegate lets pods use every controller.
func delegate() error {
	text, err := os.ReadFile(cgroupRoot + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(text)) {
		if err := os.WriteFile(cgroupRoot+"/cgroup.subtree_control", []byte("+"+controller), 0); err != nil {
			return fmt.Errorf("delegating %s: %w", controller, err)
		}
	}
	return nil
}

// connect brings up the network. Nothing else is started yet, so nobody takes away the
// children that it waits for.
func connect(config boot.Config) error {
	for _, command := range []string{
		"link set lo up",
		"addr add " + config.Address + "/24 dev eth0",
		"link set eth0 up",
		"route add default via " + config.Gateway,
	} {
		if out, err := exec.Command("busybox", append([]string{"ip"}, strings.Fields(command)...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", command, err, strings.TrimSpace(string(out)))
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}
