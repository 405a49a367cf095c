// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"math/bits"
	"os"
	"time"

	"github.com/cilium/ebpf/btf"

	"nodegadget.dev/pkg/gadget"
)

const (
	// DefaultBufferSize holds about 40,000 events of trace open, in bytes.
	DefaultBufferSize = 4 << 20
	// MaxBufferSize bounds what one run may take of the kernel's memory, in bytes.
	MaxBufferSize = 256 << 20
	// DefaultInterval is how often a table is read.
	DefaultInterval = time.Second
	// MinInterval is the shortest interval of tables and snapshots.
	MinInterval = 10 * time.Millisecond
	// flushInterval is how long a record waits at most before it is handed out:
	// the kernel wakes the reader only for large backlogs.
	flushInterval = 20 * time.Millisecond
	// flushRecords bounds what is handed out between two flushes: a buffer that is
	// filled as fast as it is read is never empty.
	flushRecords = 1 << 13
)

// Options say how to run a gadget. The zero value runs it as its author meant it.
type Options struct {
	// Params are the values of parameters by flag name; others keep their defaults.
	Params map[string]string
	// KernelTypes are the running kernel's types, nil for those that it carries itself.
	KernelTypes *btf.Spec
	// Cache keeps what loading has decoded of the kernel's types, for runs that
	// start close together; nil keeps nothing.
	Cache *btf.Cache
	// BufferSize is the size of the event buffer in bytes, rounded up to a power
	// of two of pages; 0 means DefaultBufferSize. A perf buffer is split among CPUs.
	BufferSize int
	// PerfBuffer uses a perf event array even where the kernel has ring buffers.
	PerfBuffer bool
	// Alternatives demands the alternative (value) of a group (key); without an
	// entry the first that works is taken.
	Alternatives map[string]string
	// Interval is the time between two readings of a table (0: DefaultInterval)
	// or a snapshot (0: once only).
	Interval time.Duration
	// FilterContainers switches on the container filter; see Tracer.SetContainer.
	FilterContainers bool
	// Budget is how many events a second one cgroup may make, or they are left out and
	// told by Excesses; 0 is any number.
	Budget uint32
	// Cgroups is the hierarchy that cgroup ids are of: the one in which this
	// machine's containers are told apart.
	Cgroups Cgroups
}

// Cgroups is a hierarchy of cgroups; see enum gadget_cgroups of gadget.h.
type Cgroups uint8

// The hierarchies: the one of v2, and two controllers' own of v1.
const (
	CgroupV2 Cgroups = iota
	CgroupV1Pids
	CgroupV1Memory
)

// Check says whether the gadget can be run with the options, as far as that
// doesn't depend on the kernel.
func (o Options) Check(spec *gadget.Spec) error {
	if o.Interval != 0 && o.Interval < MinInterval {
		return fmt.Errorf("interval of %v, want at least %v", o.Interval, MinInterval)
	}
	if _, err := o.bufferSize(); err != nil {
		return err
	}
	if o.Cgroups > CgroupV1Memory {
		return fmt.Errorf("hierarchy of cgroups %d, want 0 to %d", o.Cgroups, CgroupV1Memory)
	}
	if err := spec.CheckAlternatives(o.Alternatives); err != nil {
		return err
	}
	return spec.CheckParams(o.Params)
}

// bufferSize is the size to be used: a power of two of at least one page.
func (o Options) bufferSize() (uint32, error) {
	size := o.BufferSize
	if size == 0 {
		size = DefaultBufferSize
	}
	if size < 0 || size > MaxBufferSize {
		return 0, fmt.Errorf("buffer size of %d bytes, want 1 to %d", size, MaxBufferSize)
	}
	size = max(size, os.Getpagesize())
	return 1 << bits.Len32(uint32(size-1)), nil
}
