// SPDX-License-Identifier: Apache-2.0

package container

import (
	"log/slog"
	"time"

	"github.com/cilium/ebpf/btf"
)

// Options of Open. Useful zero values are said with each.
type Options struct {
	// Cgroups is the directory where the host's cgroups are mounted; "" is
	// /sys/fs/cgroup.
	Cgroups string
	// Root is the cgroup that holds all of this node, "/kubelet" for example; ""
	// is to find it from the agent's own cgroup.
	Root string
	// Types are the kernel's types; nil are those that it shows itself.
	Types *btf.Spec
	// Resolver is asked about containers. Without one no more is known of them than
	// their cgroups' paths say.
	Resolver Resolver
	// ResolveTimeout is how long a container may be Pending; 0 is 4 seconds.
	ResolveTimeout time.Duration
	// Grace is how long a removed cgroup stays known; 0 is 30 seconds.
	Grace time.Duration
	// MaxGone bounds how many removed cgroups stay known; 0 is 4096. The oldest
	// are forgotten first.
	MaxGone int
	// Log gets what an operator should know; nil is nothing.
	// Log gets what an operator should know; nil is nothing.
	Log *slog.Logger

	// buffer is the size of the tracker's in bytes, 0 for the usual; tests fill it.
	buffer uint32
}

const (
	defaultCgroups        = "/sys/fs/cgroup"
	defaultResolveTimeout = 4 * time.Second
	defaultGrace          = 30 * time.Second
	defaultMaxGone        = 4096
)

func (o Options) withDefaults() Options {
	if o.Cgroups == "" {
		o.Cgroups = defaultCgroups
	}
	if o.ResolveTimeout == 0 {
		o.ResolveTimeout = defaultResolveTimeout
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.MaxGone == 0 {
		o.MaxGone = defaultMaxGone
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Hierarchy says which tree of cgroups the ids are of.
type Hierarchy uint8

// The hierarchies. Where controllers are mounted the v1 way, container runtimes
// put containers there, and the v2 tree may be empty.
const (
	V2 Hierarchy = iota
	V1Pids
	V1Memory
)

func (h Hierarchy) String() string {
	switch h {
	case V1Pids:
		return "cgroup v1, pids"
	case V1Memory:
		return "cgroup v1, memory"
	default:
		return "cgroup v2"
	}
}
