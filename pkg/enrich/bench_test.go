// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
)

// node is one with n containers, half of them in shop; cgroups count from 1.
func node(n int) []container.Change {
	changes := []container.Change{state(uint64(n+1), container.Host)}
	for i := range n {
		changes = append(changes, known(uint64(i+1), pod(uint32(i+1), []string{"shop", "bank"}[i%2], "a")))
	}
	return changes
}

func benchOptions(known []container.Change) Options {
	f := &feed{}
	f.tell(known...)
	return Options{
		Containers: f, Process: maker, Selection: inShop,
		Define: func(*container.Container) {}, Emit: func(uint32, uint32, []byte) bool { return true },
	}
}

func TestKnownRecordsTakeNoMemory(t *testing.T) {
	for name, target := range map[string]*Identity{"one process": nil, "two processes": &theirs} {
		opts := benchOptions(node(100))
		opts.Target = target
		e, err := New(opts)
		require.NoError(t, err)
		r := record(1, 1, 0)
		id := uint64(0)
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			id = id%101 + 1
			binary.NativeEndian.PutUint64(r, id)
			e.Record(r)
		}), name)
	}
}

// BenchmarkRecord is what a record costs whose container is known: the target is
// 100 ns.
func BenchmarkRecord(b *testing.B) {
	for _, bench := range []struct {
		name       string
		containers int
		target     *Identity
	}{{"110 containers", 110, nil}, {"4000 containers", 4000, nil}, {"110 containers, two processes", 110, &theirs}} {
		b.Run(bench.name, func(b *testing.B) {
			opts := benchOptions(node(bench.containers))
			opts.Target = bench.target
			e, err := New(opts)
			require.NoError(b, err)
			r := record(1, 1, 0)
			b.ReportAllocs()
			id := uint64(0)
			for b.Loop() {
				// Neighbours' records don't come one after the other.
				id = (id*7919+1)%uint64(bench.containers) + 1
				binary.NativeEndian.PutUint64(r, id)
				e.Record(r)
			}
		})
	}
}

// BenchmarkWait is what a record costs that has to wait.
func BenchmarkWait(b *testing.B) {
	opts := benchOptions(nil)
	e, err := New(opts)
	require.NoError(b, err)
	r := record(1, 1, 0)
	b.ReportAllocs()
	for b.Loop() {
		e.Record(r)
	}
}
