// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Machine is a node with a kernel of its own: a virtual machine.
type Machine struct {
	Name    string
	Address string
	// Gateway is the way to the control plane, to services and to other nodes.
	Gateway string
	// Device is this side's end of the machine's network, a tap device.
	Device string
	// Files is a directory of what the machine must have below its root directory.
	Files string
	// Process is the machine itself, once it runs.
	Process *Process

	cluster *Cluster
	index   int
	place   place
}

// Programs are paths of what a machine must have at the same paths, with the libraries
// that they need.
type Programs struct {
	Containerd, Ctr, Runc string
	// CNI is a directory.
	CNI string
}

// FindPrograms returns those of this machine.
func FindPrograms() (Programs, error) {
	p, err := findPrograms()
	return Programs{Containerd: p.containerd, Ctr: p.ctr, Runc: p.runc, CNI: p.cni}, err
}

// AddMachine makes the machine's place in the cluster: its address, its device, and the
// files that make it a node. It must not be called twice at a time.
func (c *Cluster) AddMachine(ctx context.Context, name string) (*Machine, error) {
	index := len(c.Nodes) + len(c.machines) + 1
	if index > maxNodes {
		return nil, fmt.Errorf("%s would be node %d: at most %d have addresses", name, index, maxNodes)
	}
	m := &Machine{
		Name: name, Address: nodeAddress(index), Gateway: ControlAddress, Device: fmt.Sprintf("port%d", index),
		Files: c.path(name + "/files"), cluster: c, index: index,
	}
	if err := m.writeFiles(); err != nil {
		return nil, fmt.Errorf("configuring %s: %w", name, err)
	}
	if err := c.ip(ctx,
		"tuntap add "+m.Device+" mode tap",
		"link set "+m.Device+" master br0 up",
		"route add "+podRange(index)+" via "+m.Address,
	); err != nil {
		return nil, err
	}
	var err error
	if m.place, err = c.place(name, nil); err != nil {
		return nil, err
	}
	if len(c.machines) == 0 {
		if err := c.startGateway(); err != nil {
			return nil, err
		}
	}
	c.machines = append(c.machines, m)
	return m, nil
}

// writeFiles writes the configuration, and gives the kubelet its certificates.
func (m *Machine) writeFiles() error {
	const pki = "/etc/kubernetes/pki"
	if err := m.cluster.issueNode(m.Name, m.Address); err != nil {
		return err
	}
	values := m.cluster.nodeValues(m.Name, m.Address, m.index)
	values.PKI, values.Cgroup = pki, ""
	for path, name := range map[string]string{
		containerdConfig: "containerd.toml", cniConfig: "cni.conflist", kubeletConfig: "kubelet.yaml",
	} {
		if err := writeConfig(filepath.Join(m.Files, path), name, values); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(m.Files, pki), 0o755); err != nil {
		return err
	}
	var errs []error
	for from, to := range map[string]string{
		"ca.crt":                pki + "/ca.crt",
		m.Name + "-serving.crt": pki + "/" + m.Name + "-serving.crt",
		m.Name + "-serving.key": pki + "/" + m.Name + "-serving.key",
		m.Name + ".kubeconfig":  MachineKubeconfig,
	} {
		text, err := os.ReadFile(m.cluster.authority.path(from))
		errs = append(errs, err, os.WriteFile(filepath.Join(m.Files, to), text, 0o600))
	}
	return errors.Join(errs...)
}

// Paths on the machine of what its daemons are started with.
const (
	MachineContainerdConfig = containerdConfig
	MachineKubeletConfig    = kubeletConfig
	MachineKubeconfig       = "/etc/kubernetes/kubelet.kubeconfig"
)

// startGateway lets machines reach services through the control plane's network: a
// kube-proxy on each would cost an emulated one many seconds.
func (c *Cluster) startGateway() error {
	config := c.path("gateway.yaml")
	values := nodeValues{PKI: c.path("pki"), Address: ControlAddress}
	// It is near to no pod. So it answers all of them under its own address, and what
	// they are answered comes back the same way.
	values.AllPods = ControlAddress + "/32"
	if err := writeConfig(config, "kube-proxy.yaml", values); err != nil {
		return err
	}
	place, err := c.place("control-plane", nil)
	if err != nil {
		return err
	}
	// It has to be some node's.
	_, err = place.daemon("gateway", c.Options.Hyperkube, "kube-proxy", "--config="+config,
		"--hostname-override="+c.Nodes[0].Name)
	return err
}

// Run starts the machine.
func (m *Machine) Run(argv ...string) error {
	var err error
	m.Process, err = m.place.daemon(m.Name, argv...)
	return err
}

// AwaitReady returns when pods can run on it, or an error when it has ended.
func (m *Machine) AwaitReady(ctx context.Context) error {
	for {
		node, err := m.cluster.Client.CoreV1().Nodes().Get(ctx, m.Name, metav1.GetOptions{})
		if err == nil {
			err = ready(node)
		}
		if err == nil {
			m.cluster.step("%s is ready", m.Name)
			return nil
		}
		if err := m.Process.running(); err != nil {
			return err
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("waiting for %s: %w", m.Name, err)
		}
	}
}
