// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// overlaid are the machine's directories of which a node changes a copy.
var overlaid = []string{"/etc", "/opt", "/var"}

// owned are directories that a node has by itself: containerd's layers can't lie on
// an overlay.
var owned = []string{
	"/etc/cni/net.d", "/run/containerd", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet",
	"/var/log/containers", "/var/log/pods",
}

// faked are settings of the whole machine that the kubelet writes if they aren't as
// it wants them. It sees that they are.
var faked = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mountFiles makes the node's view of files in the calling thread's mount namespace.
func (n *Node) mountFiles() error {
	// Away from the machine's, but shared among the node's, so that mounts can
	// propagate into pods.
	for _, propagation := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
			return fmt.Errorf("changing the propagation of mounts: %w", err)
		}
	}
	for _, dir := range overlaid {
		if _, err := os.Stat(dir); err == nil {
			if err := n.overlay(dir); err != nil {
				return err
			}
		}
	}
	if err := mount("tmpfs", "/run", "tmpfs", "mode=755"); err != nil {
		return err
	}
	for _, dir := range owned {
		if err := bind(n.path(dir), dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/run/lock", "/run/netns", "/etc/kubernetes/manifests"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return n.mountKernel()
}

// mountKernel mounts what the kernel shows.
func (n *Node) mountKernel() error {
	// Its own, so that nothing that is pinned on a node outlives it.
	if err := mount("bpf", "/sys/fs/bpf", "bpf", "mode=700"); err != nil {
		return err
	}
	if _, err := os.Stat("/sys/kernel/tracing/events"); err != nil {
		if err := mount("tracefs", "/sys/kernel/tracing", "tracefs", ""); err != nil {
			return err
		}
	}
	for name, value := range faked {
		fake := n.path("sysctl/" + strings.ReplaceAll(name, "/", "."))
		if err := os.MkdirAll(filepath.Dir(fake), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(fake, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(fake, "/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("covering %s: %w", name, err)
		}
	}
	return nil
}

// overlay lets the node change a copy of a directory.
func (n *Node) overlay(dir string) error {
	upper, work := n.path("overlay"+dir), n.path("overlay-work"+dir)
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", dir, "overlay", fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work))
}

// bind makes both directories and shows the first in place of the second.
func bind(from, to string) error {
	for _, d := range []string{from, to} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", from, to, err)
	}
	return nil
}

func mount(source, dir, kind, data string) error {
	if err := unix.Mount(source, dir, kind, 0, data); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", kind, dir, err)
	}
	return nil
}
