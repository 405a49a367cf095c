// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// forwarding is the switch of the calling thread's network namespace.
const forwarding = "/proc/sys/net/ipv4/ip_forward"

// makeNetwork makes the control plane's side: a bridge that nodes are attached to, in
// this process's network namespace.
func (c *Cluster) makeNetwork(ctx context.Context) error {
	err := c.ip(ctx,
		"link set lo up",
		// The cluster's DNS answers at its service's address itself.
		"address add "+dnsService+"/32 dev lo",
		"link add br0 type bridge",
		"address add "+ControlAddress+"/24 dev br0",
		"link set br0 up",
	)
	if err != nil {
		return err
	}
	return os.WriteFile(forwarding, []byte("1"), 0o644)
}

// connect makes the node's side. It is called on a thread of the node.
func (n *Node) connect(ctx context.Context) error {
	port := fmt.Sprintf("port%d", n.index)
	commands := []string{
		"link set lo up",
		"link add eth0 type veth peer name " + port + " netns " + strconv.Itoa(os.Getpid()),
		"address add " + n.Address + "/24 dev eth0",
		"link set eth0 up",
		"route add default via " + ControlAddress,
	}
	for other := range n.cluster.Options.Nodes {
		if other+1 != n.index {
			commands = append(commands, "route add "+podRange(other+1)+" via "+nodeAddress(other+1))
		}
	}
	if err := n.cluster.ip(ctx, commands...); err != nil {
		return err
	}
	return os.WriteFile(forwarding, []byte("1"), 0o644)
}

// attach makes the bridge's end of the node's link.
func (n *Node) attach(ctx context.Context) error {
	return n.cluster.ip(ctx,
		fmt.Sprintf("link set port%d master br0 up", n.index),
		"route add "+podRange(n.index)+" via "+n.Address,
	)
}

// ip runs commands of ip(8) in the calling thread's network namespace.
func (c *Cluster) ip(ctx context.Context, commands ...string) error {
	cmd := exec.CommandContext(ctx, c.programs.ip, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
