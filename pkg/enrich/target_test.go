// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
)

func TestSecondProcess(t *testing.T) {
	world := []container.Change{
		known(1, pod(1, "shop", "a")), known(2, pod(2, "shop", "b")), known(3, pod(3, "bank", "c")), state(5, container.Host),
	}
	const mine, yours = "mine", "your"
	blank := "\x00\x00\x00\x00"
	for _, test := range []struct {
		name            string
		selection       Selection
		cgroup, target  uint64
		want            []emitted
		maker, receiver string
	}{
		{"both are seen", inShop, 1, 2, []emitted{{1, 2, 7}}, mine, yours},
		{"both are one", inShop, 1, 1, []emitted{{1, 1, 7}}, mine, yours},
		{"to another namespace", inShop, 1, 3, []emitted{{1, HiddenRef, 7}}, mine, blank},
		{"from another namespace", inShop, 3, 2, []emitted{{HiddenRef, 2, 7}}, blank, yours},
		{"from the host", inShop, 5, 2, []emitted{{HiddenRef, 2, 7}}, blank, yours},
		{"from the host, which may be seen", Selection{Namespaces: []string{"shop"}, Host: true}, 5, 2, []emitted{{HostRef, 2, 7}}, mine, yours},
		{"to the host, with all containers", Selection{}, 3, 5, []emitted{{3, HiddenRef, 7}}, mine, blank},
		{"on the machine", machine, 5, 3, []emitted{{HostRef, 3, 7}}, mine, yours},
		{"none is seen", inShop, 3, 5, nil, "", ""},
		{"from nobody knows where", inShop, 8, 2, []emitted{{HiddenRef, 2, 7}}, blank, yours},
		{"to nobody knows where", inShop, 1, 8, []emitted{{1, HiddenRef, 7}}, mine, blank},
		{"to nobody knows where, with all containers", Selection{}, 1, 8, []emitted{{1, UnresolvedRef, 7}}, mine, yours},
		{"from nobody knows where to another namespace", inShop, 8, 3, nil, "", ""},
		{"to nobody", inShop, 1, 0, []emitted{{1, HiddenRef, 7}}, mine, blank},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, Options{Selection: test.selection, Target: &theirs}, world...)
			r.record(test.cgroup, test.target, 7)
			r.Release()
			require.Equal(t, test.want, r.out)
			unknown := test.cgroup == 8 || test.target == 8
			if len(test.want) == 0 {
				require.Equal(t, unknown, r.Withheld() == 1)
				r.close(0)
				return
			}
			require.Equal(t, test.cgroup == 8, r.Unresolved() == 1)
			got := r.bytes[0]
			require.Equal(t, test.maker, string(got[nameAt:nameAt+4]))
			require.Equal(t, test.receiver, string(got[theirsAt:theirsAt+4]))
			require.Equal(t, test.maker == blank, maker.CgroupID(got) == 0)
			require.Equal(t, test.receiver == blank, string(got[length:]) != "/path", "the tail is %q", got[length:])
			require.Equal(t, test.receiver == blank, binary.NativeEndian.Uint32(got[tailAt:]) == 0)
			r.close(1)
		})
	}
	_, err := New(Options{Target: &theirs, SetVerdict: func(uint64, Verdict) error { return nil }})
	require.Error(t, err)
}

// TestTargetsKeepTheOrder: a record whose target isn't known holds up those of its
// maker, and nobody else's.
func TestTargetsKeepTheOrder(t *testing.T) {
	r := newRig(t, Options{Target: &theirs}, known(1, pod(1, "shop", "a")), known(2, pod(2, "shop", "b")))
	r.record(1, 8, 0)
	r.record(1, 2, 1)
	r.record(2, 1, 2)
	r.record(1, 9, 3)
	r.record(1, 8, 4)
	require.Equal(t, []emitted{{2, 1, 2}}, r.taken())
	r.feed.tell(known(8, pod(8, "shop", "c")))
	r.Flush()
	require.Equal(t, []emitted{{1, 8, 0}, {1, 2, 1}}, r.taken())
	r.feed.tell(known(9, pod(9, "shop", "d")))
	r.Flush()
	require.Equal(t, []emitted{{1, 9, 3}, {1, 8, 4}}, r.taken())
	r.close(5)
}
