// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sys/unix"
)

// Node is a node of the cluster.
type Node struct {
	Name    string
	Address string
	// Containerd, Kubelet and Proxy may be stopped and started; see AwaitContainerd.
	Containerd, Kubelet, Proxy *Process

	cluster *Cluster
	index   int
	place   place
}

// path is that of a file of the node, as the machine sees it.
func (n *Node) path(name string) string { return filepath.Join(n.cluster.path(n.Name), name) }

// cgroup is the path of the cgroup that holds the node's pods and daemons.
func (n *Node) cgroup() string { return n.cluster.Options.name() + "/" + n.Name }

// prepare makes all of the node that needs no API server.
func (n *Node) prepare(ctx context.Context) error {
	if err := n.cluster.issueNode(n.Name, n.Address); err != nil {
		return err
	}
	var spaces *namespaces
	err := onThread(func() (err error) {
		spaces, err = n.unshare(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := n.attach(ctx); err != nil {
		return err
	}
	if n.place, err = n.cluster.place(n.Name+"/system", spaces); err != nil {
		return err
	}
	return n.startContainerd(ctx)
}

// unshare makes the node's namespaces and what is in them, on a thread of its own.
func (n *Node) unshare(ctx context.Context) (*namespaces, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
		return nil, fmt.Errorf("making namespaces: %w", err)
	}
	if err := unix.Sethostname([]byte(n.Name)); err != nil {
		return nil, err
	}
	if err := n.mountFiles(); err != nil {
		return nil, err
	}
	if err := n.connect(ctx); err != nil {
		return nil, err
	}
	if err := n.configure(); err != nil {
		return nil, err
	}
	return currentNamespaces()
}

// Paths of the configuration on each node.
const (
	containerdConfig = "/etc/containerd/config.toml"
	cniConfig        = "/etc/cni/net.d/10-e2e.conflist"
	kubeletConfig    = "/etc/kubernetes/kubelet.yaml"
	proxyConfig      = "/etc/kubernetes/kube-proxy.yaml"
)

// nodeValues are what the configuration of a node is filled in with.
type nodeValues struct {
	Name, Address, PKI, Cgroup, CNI, Runc, PauseImage, PodRange, AllPods, DNS string
}

func (c *Cluster) nodeValues(name, address string, index int) nodeValues {
	return nodeValues{
		Name: name, Address: address, PKI: c.path("pki"),
		CNI: c.programs.cni, Runc: c.programs.runc, PauseImage: c.Options.PauseImage,
		PodRange: podRange(index), AllPods: allPods, DNS: dnsService,
	}
}

func (n *Node) configure() error {
	values := n.cluster.nodeValues(n.Name, n.Address, n.index)
	values.Cgroup = n.cgroup()
	for path, name := range map[string]string{
		containerdConfig: "containerd.toml", cniConfig: "cni.conflist",
		kubeletConfig: "kubelet.yaml", proxyConfig: "kube-proxy.yaml",
	} {
		if err := writeConfig(path, name, values); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) startContainerd(ctx context.Context) error {
	var err error
	n.Containerd, err = n.place.daemon(n.Name+"-containerd", n.cluster.programs.containerd, "--config", containerdConfig)
	if err != nil {
		return err
	}
	if err := n.AwaitContainerd(ctx); err != nil {
		return err
	}
	for _, archive := range n.cluster.Options.Images {
		if err := n.Import(ctx, archive); err != nil {
			return err
		}
	}
	n.cluster.step("%s has its images", n.Name)
	return nil
}

// AwaitContainerd returns when it serves, or an error when it has ended.
func (n *Node) AwaitContainerd(ctx context.Context) error {
	for {
		_, err := n.place.output(ctx, n.cluster.programs.ctr, "version")
		if err == nil {
			return nil
		}
		if err := n.Containerd.running(); err != nil {
			return err
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("waiting for containerd: %w\n%s", err, n.Containerd.tail())
		}
	}
}

// Import imports an archive of images.
func (n *Node) Import(ctx context.Context, archive string) error {
	// Daemons run in the root directory.
	archive, err := filepath.Abs(archive)
	if err != nil {
		return err
	}
	_, err = n.place.output(ctx, n.cluster.programs.ctr, "--namespace", "k8s.io", "images", "import", archive)
	return err
}

// join starts what makes the node one of the cluster's.
func (n *Node) join(context.Context) error {
	hyperkube := n.cluster.Options.Hyperkube
	var err error
	if n.Kubelet, err = n.place.daemon(n.Name+"-kubelet", hyperkube, "kubelet", "--config="+kubeletConfig,
		"--kubeconfig="+n.cluster.authority.path(n.Name+".kubeconfig"),
		"--hostname-override="+n.Name, "--node-ip="+n.Address, "--v=2"); err != nil {
		return err
	}
	n.Proxy, err = n.place.daemon(n.Name+"-kube-proxy", hyperkube, "kube-proxy", "--config="+proxyConfig,
		"--hostname-override="+n.Name)
	return err
}

func (n *Node) awaitReady(ctx context.Context) error {
	for {
		node, err := n.cluster.Client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err == nil {
			err = ready(node)
		}
		if err == nil {
			return nil
		}
		if err := n.Kubelet.running(); err != nil {
			return err
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("waiting for %s: %w\n%s", n.Name, err, n.Kubelet.tail())
		}
	}
}

// Exec runs a command as a daemon of the node would, and returns what it prints.
func (n *Node) Exec(ctx context.Context, argv ...string) (string, error) {
	return n.place.output(ctx, argv...)
}

// Find returns the ids of the node's processes that run a program of that name,
// those in its pods included.
func (n *Node) Find(program string) ([]int, error) {
	g, err := findGroup(n.cgroup())
	if err != nil {
		return nil, err
	}
	pids, err := g.processes()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, pid := range pids {
		// An error is that of a process that has ended.
		if exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe")); err == nil && filepath.Base(exe) == program {
			found = append(found, pid)
		}
	}
	return found, nil
}

// Signal sends a signal to a process of the node.
func (n *Node) Signal(pid int, signal unix.Signal) error {
	g, err := findGroup(n.cgroup())
	if err != nil {
		return err
	}
	return g.signal(pid, signal)
}

// WriteFile writes a file as the node's daemons see it.
func (n *Node) WriteFile(path string, text []byte) error {
	return n.onThread(func() error { return os.WriteFile(path, text, 0o644) })
}

// RemoveFile removes a file as the node's daemons see it.
func (n *Node) RemoveFile(path string) error {
	return n.onThread(func() error { return os.Remove(path) })
}

// onThread runs f on a thread that sees what the node's daemons see.
func (n *Node) onThread(f func() error) error {
	return onThread(func() error {
		if err := n.place.spaces.join(); err != nil {
			return err
		}
		return f()
	})
}
