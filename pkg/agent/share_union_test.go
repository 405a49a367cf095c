// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/enrich"
)

// filter is the kernel's.
type filter struct {
	verdicts map[uint64]enrich.Verdict
	told     int
	full     bool
}

func (f *filter) tell(cgroupID uint64, verdict enrich.Verdict) error {
	if f.full {
		return errors.New("no room")
	}
	f.told++
	if verdict == enrich.Unknown {
		delete(f.verdicts, cgroupID)
	} else {
		f.verdicts[cgroupID] = verdict
	}
	return nil
}

func newTestUnion() (*union, *filter) {
	f := &filter{verdicts: map[uint64]enrich.Verdict{}}
	return newUnion(f.tell), f
}

func TestKernelLetsThroughWhatOneMaySee(t *testing.T) {
	u, f := newTestUnion()
	say := func(v *view, verdicts ...enrich.Verdict) {
		for i, verdict := range verdicts {
			require.NoError(t, v.say(uint64(i+1), verdict))
		}
	}
	const in, out, unknown = enrich.In, enrich.Out, enrich.Unknown
	a := u.join()
	say(a, in, out, unknown, out)
	require.Equal(t, map[uint64]enrich.Verdict{1: in, 2: out, 4: out}, f.verdicts)
	b := u.join()
	say(b, out, out, out, unknown)
	u.refresh()
	require.Equal(t, map[uint64]enrich.Verdict{1: in, 2: out}, f.verdicts, "b doesn't know 4 yet, a not 3")
	say(b, out, in, in, out)
	require.Equal(t, map[uint64]enrich.Verdict{1: in, 2: in, 3: in, 4: out}, f.verdicts)
	u.leave(b)
	require.Equal(t, map[uint64]enrich.Verdict{1: in, 2: out, 4: out}, f.verdicts)
	c := u.join()
	u.refresh()
	require.Equal(t, map[uint64]enrich.Verdict{1: in}, f.verdicts)
	u.leave(a)
	u.leave(c)
	require.Empty(t, f.verdicts)
	require.Empty(t, u.cgroups, "nothing is remembered")
}

// TestJoiningDoesntTouchWhatStays: telling the kernel costs a system call each.
func TestJoiningDoesntTouchWhatStays(t *testing.T) {
	u, f := newTestUnion()
	a := u.join()
	for id := range uint64(100) {
		require.NoError(t, a.say(id, enrich.Out))
	}
	told := f.told
	b := u.join()
	for id := range uint64(99) {
		require.NoError(t, b.say(id, enrich.Out))
	}
	require.NoError(t, b.say(99, enrich.In))
	u.refresh()
	require.Equal(t, told+1, f.told)
}

// TestFullFilterLetsThrough what it has no room for, and is told again later.
func TestFullFilterLetsThrough(t *testing.T) {
	u, f := newTestUnion()
	a := u.join()
	f.full = true
	require.NoError(t, a.say(1, enrich.Out))
	require.Empty(t, f.verdicts)
	f.full = false
	u.refresh()
	require.Equal(t, map[uint64]enrich.Verdict{1: enrich.Out}, f.verdicts)
}

// TestUnionIsThatOfAllMembers, whatever they say in which order.
func TestUnionIsThatOfAllMembers(t *testing.T) {
	const cgroups, most = 8, 5
	random := rand.New(rand.NewPCG(1, 2))
	u, f := newTestUnion()
	var parties []*party
	for range 20_000 {
		switch n := random.IntN(20); {
		case n == 0 && len(parties) < most:
			parties = append(parties, &party{view: u.join()})
			u.refresh()
			u.listen(parties)
		case n == 1 && len(parties) > 0:
			i := random.IntN(len(parties))
			u.leave(parties[i].view)
			parties = append(parties[:i:i], parties[i+1:]...)
			u.listen(parties)
		case len(parties) > 0:
			v := parties[random.IntN(len(parties))].view
			require.NoError(t, v.say(random.Uint64N(cgroups), enrich.Verdict(random.IntN(3))))
		}
		for id := range uint64(cgroups) {
			var audience []*party
			for _, p := range parties {
				if p.view.said[id] != enrich.Out {
					audience = append(audience, p)
				}
			}
			require.ElementsMatch(t, audience, u.audience(id))
			require.Equal(t, len(parties) > 0 && len(audience) == 0, f.verdicts[id] == enrich.Out)
		}
	}
}
