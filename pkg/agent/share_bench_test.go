// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/wire"
)

// benchPods is how many pods a node has.
const benchPods = 110

// benchParty is a number of members that see the given pods, none for all, with readers of
// their queues.
func benchParty(b *testing.B, u *union, members int, readers *sync.WaitGroup, pods ...string) *party {
	n := &settled{}
	for i := range uint32(benchPods) {
		n.known = append(n.known, container.Change{CgroupID: uint64(i + 1), State: container.Known, Container: shopPod(i + 1)})
	}
	n.dirty.Store(true)
	t := &party{view: u.join()}
	opts := &enrich.Options{Containers: n, Selection: enrich.Selection{Pods: pods}, SetVerdict: t.view.say}
	var err error
	t.intake, err = newIntake(nil, opts)
	require.NoError(b, err)
	for range members {
		m := &member{queue: newQueue(DefaultQueueSize, nil, false), stage: taking}
		t.members = append(t.members, m)
		readers.Go(func() { discard(m) })
	}
	return t
}

// settled is a registry that has no news after the first.
type settled struct {
	known []container.Change
	dirty atomic.Bool
}

func (s *settled) Dirty() bool { return s.dirty.Load() }

func (s *settled) Ask(uint64) {}

func (s *settled) Take(changes []container.Change) []container.Change {
	s.dirty.Store(false)
	return append(changes, s.known...)
}

// BenchmarkShare is what a record costs, all members together.
func BenchmarkShare(b *testing.B) {
	pod := func(i int) []string { return []string{fmt.Sprint("cart-", i+1)} }
	all := func(int) []string { return nil }
	for _, bench := range []struct {
		name             string
		parties, members int
		pods             func(i int) []string
	}{
		{"1 member, all pods", 1, 1, all},
		{"16 members, a pod each", 16, 1, pod},
		{"16 members, all pods", 1, 16, all},
		{"16 members, all pods, their own filters", 16, 1, all},
	} {
		b.Run(bench.name, func(b *testing.B) {
			u := newUnion(func(uint64, enrich.Verdict) error { return nil })
			var readers sync.WaitGroup
			p := &program{plan: &plan{maker: &enrich.Identity{}}, union: u}
			for i := range bench.parties {
				p.parties = append(p.parties, benchParty(b, u, bench.members, &readers, bench.pods(i)...))
			}
			p.route()
			record := append(made(1, 0), make([]byte, 114)...)
			b.ReportAllocs()
			b.SetBytes(int64(len(record)))
			i := 0
			for b.Loop() {
				// Of the pods that one of the members sees.
				record[0] = byte(i%16 + 1)
				i++
				p.record(record)
				if i%4096 == 0 {
					for _, t := range p.parties {
						t.intake.flush()
					}
				}
			}
			for _, t := range p.parties {
				for _, m := range t.members {
					m.queue.close()
				}
			}
			readers.Wait()
		})
	}
}

// floodDirs names the cgroups in which a process of this program that floods opens
// floodOpens files each: another process than the agent's.
const (
	floodDirs  = "NODEGADGET_TEST_FLOOD"
	floodOpens = 20_000
)

// floods says whether this process is one that floods, and has done so.
func floods() bool {
	dirs := os.Getenv(floodDirs)
	if dirs == "" {
		return false
	}
	for dir := range strings.SplitSeq(dirs, ":") {
		if err := openMany(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	return true
}

// openMany enters a cgroup and opens files.
func openMany(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	for range floodOpens {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}

// flood runs a process that floods.
func flood(b *testing.B, dirs []string) {
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), floodDirs+"="+strings.Join(dirs, ":"))
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", out)
}

// discard reads a member's records until there are no more.
func discard(m *member) {
	for p := range m.queue.batches {
		m.queue.recycle(p)
	}
}

// processorTime is what this process and its children that have ended have used.
func processorTime(b *testing.B) (total time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		require.NoError(b, unix.Getrusage(who, &usage))
		total += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return total
}

// BenchmarkShareOfFlood is what opening a file costs the whole machine, the call itself, the
// program and the agent: the target is 1.3 times as much for 16 sessions as for one.
func BenchmarkShareOfFlood(b *testing.B) {
	start := func(filter string, pods ...string) *wire.Start {
		return &wire.Start{Gadget: "trace_open", Filter: filter, Selector: &wire.Selector{Pods: pods}}
	}
	all := func(int) *wire.Start { return start("") }
	for _, bench := range []struct {
		name    string
		members int
		start   func(i int) *wire.Start
		budget  uint32
	}{
		{"nobody", 0, nil, 0},
		{"1 member", 1, all, 0},
		{"1 member, a budget", 1, all, math.MaxUint32},
		{"16 members, a pod each", 16, func(i int) *wire.Start { return start("", fmt.Sprint("cart-", i)) }, 0},
		{"16 members, all pods", 16, all, 0},
		{"16 members, all pods, their own filters", 16, func(i int) *wire.Start { return start(fmt.Sprintf("fd >= %d", -i-1)) }, 0},
	} {
		b.Run(bench.name, func(b *testing.B) {
			n := newTestNode(b, Options{BufferSize: 64 << 20, CgroupBudget: bench.budget})
			var dirs []string
			for i := range 16 {
				dirs = append(dirs, n.container("shop", fmt.Sprint("cart-", i), "web", nil).dir)
			}
			var members []*member
			var readers sync.WaitGroup
			for i := range bench.members {
				m := n.join(bench.start(i))
				members = append(members, m)
				readers.Go(func() { discard(m) })
			}
			before, opens := processorTime(b), 0
			for b.Loop() {
				flood(b, dirs)
				opens += floodOpens * len(dirs)
			}
			for _, m := range members {
				m.leave()
			}
			readers.Wait()
			b.ReportMetric(float64(processorTime(b)-before)/float64(opens), "cpu-ns/open")
			for _, m := range members {
				loss, err := m.loss()
				require.NoError(b, err)
				require.Zero(b, loss.GetKernel()+loss.GetQueue())
				require.GreaterOrEqual(b, int(m.records()), opens/16)
			}
		})
	}
}
