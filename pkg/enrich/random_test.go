// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
)

// TestWhateverHappens plays random worlds: the order of a cgroup's records is kept,
// nothing is shown that has never been allowed, memory is bounded, and the books balance.
func TestWhateverHappens(t *testing.T) {
	selections := []Selection{{}, inShop, machine, {Namespaces: []string{"shop"}, Host: true}}
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, seed, selections[seed%4], seed%3 == 0) })
		})
	}
}

func play(t *testing.T, seed uint64, selection Selection, targets bool) {
	random := rand.New(rand.NewPCG(seed, seed))
	const cgroups, memory = 12, 3000
	opts := Options{Selection: selection, Hold: 50 * time.Millisecond, HoldBytes: memory}
	if targets {
		opts.Target = &theirs
	}
	r := newRig(t, opts)
	owner := map[uint64]uint64{}
	// allowed are the cgroups that the run has at some time been allowed to see.
	allowed := map[uint64]bool{0: selection.Machine}
	for n := range uint64(2000) {
		id := random.Uint64N(cgroups) + 1
		switch random.IntN(10) {
		case 0:
			change := randomChange(random, id)
			if sight := selection.sightOf(change); sight == shown || selection.All() && sight != hidden {
				allowed[id] = true
			}
			r.feed.tell(change)
		case 1:
			r.Flush()
		case 2:
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		default:
			owner[n] = id
			r.record(id, random.Uint64N(cgroups+1), n)
		}
		require.LessOrEqual(t, r.held.bytes, memory)
	}
	r.Release()
	last := map[uint64]uint64{}
	unresolved := 0
	for _, out := range r.out {
		id := owner[out.number]
		require.GreaterOrEqual(t, out.number, last[id], "records of cgroup %d are out of order", id)
		last[id] = out.number
		switch out.ref {
		case UnresolvedRef:
			require.True(t, selection.All())
			unresolved++
		case HiddenRef:
			require.True(t, targets)
			require.NotEqual(t, uint32(HiddenRef), out.target)
		default:
			require.True(t, allowed[id], "cgroup %d has never been selected", id)
		}
	}
	require.LessOrEqual(t, uint64(unresolved), r.Unresolved())
	r.close(len(r.out))
}

func randomChange(random *rand.Rand, id uint64) container.Change {
	change := container.Change{CgroupID: id, State: container.State(random.IntN(4) + 1), Gone: random.IntN(8) == 0}
	if change.State == container.Known {
		change.Container = pod(uint32(random.IntN(6)+1), []string{"shop", "bank"}[random.IntN(2)], "a")
		change.Container.Unresolved = random.IntN(5) == 0
	}
	return change
}
