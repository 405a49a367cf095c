// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/wire"
)

// readPaths reads the paths that a member's records tell of, until its queue is closed.
func readPaths(t testing.TB, m *member) (paths []string) {
	path, err := event.NewSchema(m.plan.object.Spec.Source, event.Options{Arch: Arch()}).Column("path")
	require.NoError(t, err)
	for p := range m.queue.batches {
		for _, record := range p.All() {
			value := path.Value(record)
			paths = append(paths, string(value.Text))
		}
		m.queue.recycle(p)
	}
	return paths
}

func (n *testNode) join(start *wire.Start) *member {
	n.t.Helper()
	plan, err := n.agent.prepare(start)
	require.NoError(n.t, err)
	m, err := n.agent.programs.join(n.t.Context(), plan)
	require.NoError(n.t, err)
	return m
}

// lookups is a script that looks for files that aren't there, each once, between files
// that all workers look for.
func lookups(worker, from, to int) []string {
	return []string{"-c", fmt.Sprintf(`i=%d; while [ $i -lt %d ]; do { true < /nowhere/%d-$i; } 2>/dev/null; : < /dev/null; i=$((i+1)); done`, from, to, worker)}
}

// TestComingAndGoingDisturbsNobody: eight members come and go at random, while containers
// open files as fast as they can. One that stays gets every event of its own exactly once,
// and so does each of the others between its joining and its leaving.
func TestComingAndGoingDisturbsNobody(t *testing.T) {
	n := newTestNode(t, Options{QueueSize: 64 << 20, BufferSize: 64 << 20})
	const workers, files, restless, often = 3, 1000, 8, 100
	// The reader of the kernel's buffer may fall behind by so many, which fit into it.
	const backlog = 5000
	pods := make([]*testPod, workers)
	for i := range pods {
		pods[i] = n.container("shop", fmt.Sprint("cart-", i), "web", nil)
	}
	start := func(pods ...string) *wire.Start {
		return &wire.Start{
			Gadget: "trace_open", Params: map[string]string{"comm": "sh"}, Filter: `path.startsWith("/nowhere/")`,
			Selector: &wire.Selector{Namespaces: []string{"shop"}, Pods: pods},
		}
	}
	stays, one := n.join(start()), n.join(start("cart-1"))
	got, all := make(chan []string, 1), make(chan []string, 1)
	for m, paths := range map[*member]chan []string{one: got, stays: all} {
		go func() { paths <- readPaths(t, m) }()
		defer m.leave()
	}
	ctx, calm := context.WithCancel(t.Context())
	var others, flood sync.WaitGroup
	var joined, total atomic.Int64
	for i := range restless {
		others.Go(func() { n.comeAndGo(ctx, rand.New(rand.NewPCG(1, uint64(i))), start, &joined) })
	}
	made := make([]int, workers)
	for i, p := range pods {
		flood.Go(func() {
			for joined.Load() < often {
				p.run("/bin/sh", lookups(i, made[i], made[i]+files)...)
				made[i] += files
				total.Add(files)
				for stays.records()+backlog < uint64(total.Load()) {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	flood.Wait()
	calm()
	others.Wait()
	require.Equal(t, stays.programID(), one.programID())
	require.Equal(t, 1, n.agent.ledger.programs())
	one.leave()
	stays.leave()
	// As many as were made, from a first to a last without a gap, are all of them.
	for paths, want := range map[chan []string]int{got: made[1], all: int(total.Load())} {
		came := <-paths
		require.Equal(t, want, len(came))
		require.NoError(t, unbroken(came))
	}
	loss, err := stays.loss()
	require.NoError(t, err)
	require.Empty(t, loss.String())
}

// comeAndGo joins and leaves until ctx ends.
func (n *testNode) comeAndGo(ctx context.Context, random *rand.Rand, start func(...string) *wire.Start, joined *atomic.Int64) {
	for ctx.Err() == nil {
		var pods []string
		if pod := random.IntN(5); pod < 4 {
			pods = []string{fmt.Sprint("cart-", pod)}
		}
		plan, err := n.agent.prepare(start(pods...))
		if err != nil {
			n.t.Error(err)
			return
		}
		m, err := n.agent.programs.join(ctx, plan)
		if err != nil {
			return
		}
		joined.Add(1)
		time.AfterFunc(time.Duration(random.IntN(100))*time.Millisecond, m.leave)
		if err := unbroken(readPaths(n.t, m)); err != nil {
			n.t.Error(err)
		}
	}
}

// unbroken says whether of each worker's files all have come, from some first to some last.
func unbroken(paths []string) error {
	last := map[int]int{}
	for _, path := range paths {
		var worker, i int
		if _, err := fmt.Sscanf(path, "/nowhere/%d-%d", &worker, &i); err != nil {
			return err
		}
		if before, ok := last[worker]; ok && i != before+1 {
			return fmt.Errorf("%s has come after number %d", path, before)
		}
		last[worker] = i
	}
	return nil
}

// TestLeavingTakesAllThatWasRecorded, although others stay.
func TestLeavingTakesAllThatWasRecorded(t *testing.T) {
	n := newTestNode(t, Options{})
	pod := n.container("shop", "cart-1", "web", nil)
	stays := n.join(startOpens(&wire.Selector{Namespaces: []string{"shop"}}))
	defer stays.abandon()
	for range 30 {
		m := n.join(startOpens(&wire.Selector{Pods: []string{"cart-1"}}))
		require.Equal(t, stays.programID(), m.programID())
		pod.run("/bin/sh", opens(20)...)
		m.leave()
		require.Len(t, readPaths(t, m), 20)
		loss, err := m.loss()
		require.NoError(t, err)
		require.Empty(t, loss.String())
	}
}

// TestTableIsSharedByIntervals: who comes later gets whole ones, and who leaves earlier what
// there is, while the others' go on.
func TestTableIsSharedByIntervals(t *testing.T) {
	n := newTestNode(t, Options{})
	pod := n.container("shop", "cart-1", "web", nil)
	start := func(interval time.Duration) *wire.Start {
		return &wire.Start{
			Gadget: "top_syscall", Params: map[string]string{"comm": "sh"}, Interval: int64(interval),
			Selector: &wire.Selector{Namespaces: []string{"shop"}},
		}
	}
	count := func(m *member) (calls int) {
		column, err := event.NewSchema(m.plan.object.Spec.Source, event.Options{Arch: Arch()}).Column("count")
		require.NoError(t, err)
		for p := range m.queue.batches {
			for _, record := range p.All() {
				calls += int(column.Value(record).Int())
			}
		}
		return calls
	}
	// All of it is in the first interval, which the others see to its end.
	first := n.join(start(time.Minute))
	second := n.join(start(time.Minute))
	pod.run("/bin/sh", opens(1000)...)
	second.leave()
	require.Zero(t, count(second), "no interval of its own has begun")
	first.leave()
	alone := count(first)
	require.Greater(t, alone, 1000)

	// One interval is over before the third is in, and another one under way.
	first = n.join(start(300 * time.Millisecond))
	third := n.join(start(300 * time.Millisecond))
	require.Eventually(t, func() bool { return len(third.queue.batches) > 0 }, 5*time.Second, time.Millisecond)
	pod.run("/bin/sh", opens(1000)...)
	third.leave()
	got := count(third)
	first.leave()
	require.Equal(t, got, count(first), "and nothing was taken from the first")
	require.InDelta(t, alone, got, 100)
}
