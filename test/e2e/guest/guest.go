// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/guest/internal/boot"
)

// Options say what guest to start.
type Options struct {
	// Name is that of the node.
	Name   string
	Kernel Kernel
	// Disk is what [Root] makes.
	Disk string
	// Release is its /etc/os-release.
	Release string
	// Memory is in MiB; the default is 1024.
	Memory int
	// CPUs is their number; the default is 2.
	CPUs int
}

func (o Options) withDefaults() Options {
	if o.Memory == 0 {
		o.Memory = 1024
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	return o
}

// Guest is a guest that runs.
type Guest struct {
	*cluster.Machine
	options Options
	dir     string
	runner  runner
}

// Check returns an error if this machine lacks a program that guests need, apart from
// those of clusters.
func Check() error {
	for _, name := range []string{qemuProgram, mkfsProgram, "busybox", "mount", "umount"} {
		if _, err := find(name); err != nil {
			return err
		}
	}
	return nil
}

// Programs of this machine.
const (
	qemuProgram = "qemu-system-x86_64"
	mkfsProgram = "mkfs.ext4"
)

// Start starts a guest, which joins the cluster: see [Guest.AwaitReady].
func Start(ctx context.Context, c *cluster.Cluster, opts Options) (*Guest, error) {
	opts = opts.withDefaults()
	machine, err := c.AddMachine(ctx, opts.Name)
	if err != nil {
		return nil, err
	}
	g := &Guest{Machine: machine, options: opts, dir: filepath.Dir(machine.Files)}
	g.runner.socket = g.path("commands")
	if err := g.writeInitrd(ctx, c); err != nil {
		return nil, fmt.Errorf("making the initramfs of %s: %w", opts.Name, err)
	}
	argv, err := g.qemu()
	if err != nil {
		return nil, err
	}
	return g, machine.Run(argv...)
}

// AwaitReady returns when pods can run on the guest.
func (g *Guest) AwaitReady(ctx context.Context, patience time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := g.Machine.AwaitReady(limited)
	if err == nil {
		return nil
	}
	ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// Nothing if the guest can't be asked.
	kubelet, _ := g.Exec(ctx, "tail", "-n", "15", "/var/log/kubelet.log")
	return fmt.Errorf("%w\n%s", err, kubelet)
}

// path is that of a file of the guest.
func (g *Guest) path(name string) string { return filepath.Join(g.dir, name) }

func (g *Guest) writeInitrd(ctx context.Context, c *cluster.Cluster) error {
	init := g.path("init")
	if err := buildInit(ctx, init); err != nil {
		return err
	}
	found, err := findModules(g.options.Kernel.Modules)
	if err != nil {
		return err
	}
	files, err := found.closure(wanted)
	if err != nil {
		return err
	}
	programs, err := cluster.FindPrograms()
	if err != nil {
		return err
	}
	config := boot.Config{
		Name: g.Name, Address: g.Address, Gateway: g.Gateway,
		Containerd: []string{programs.Containerd, "--config", cluster.MachineContainerdConfig},
		Socket:     "/run/containerd/containerd.sock",
		Kubelet: []string{
			hyperkube, "kubelet", "--config=" + cluster.MachineKubeletConfig,
			"--kubeconfig=" + cluster.MachineKubeconfig, "--hostname-override=" + g.Name, "--node-ip=" + g.Address,
			// It looks at all cgroups again and again. Emulated, that is most of what it does.
			"--housekeeping-interval=30s", "--global-housekeeping-interval=5m",
		},
	}
	return initrd{
		init: init, config: config, modules: files, machine: g.Machine, release: g.options.Release,
	}.write(g.path("initrd"))
}

// qemu is the command that is the guest.
func (g *Guest) qemu() ([]string, error) {
	program, err := find(qemuProgram)
	if err != nil {
		return nil, err
	}
	return []string{
		program, "-machine", "q35", "-cpu", "max",
		// One thread for all CPUs: with one each, a CPU may execute code that another has
		// just patched, and switching a tracepoint on or off ends in an oops.
		"-accel", "tcg,thread=single,tb-size=256",
		"-m", strconv.Itoa(g.options.Memory), "-smp", strconv.Itoa(g.options.CPUs),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio", // its log
		"-serial", "unix:" + g.runner.socket + ",server=on,wait=off",
		"-kernel", g.options.Kernel.Boot, "-initrd", g.path("initrd"),
		"-append", "console=ttyS0 quiet loglevel=3 panic=-1 oops=panic mitigations=off nokaslr tsc=reliable " +
			"random.trust_cpu=on cgroup_no_v1=all net.ifnames=0",
		// All write to copies, which are gone when they end.
		"-drive", "file=" + g.options.Disk + ",format=raw,if=none,id=disk,snapshot=on,cache=unsafe",
		"-device", "virtio-blk-pci,drive=disk",
		"-netdev", "tap,id=net,ifname=" + g.Device + ",script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=net,romfile=,mac=" + mac(g.Address),
		"-device", "virtio-rng-pci",
	}, nil
}

// mac is the guest's address on the cluster's network, one of those that anybody may use.
func mac(address string) string {
	ip := netip.MustParseAddr(address).As4()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", ip[0], ip[1], ip[2], ip[3])
}
