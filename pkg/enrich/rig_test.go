// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
)

// feed is a registry of which the test says what it knows.
type feed struct {
	pending []container.Change
	asked   []uint64
}

func (f *feed) Ask(cgroupID uint64) { f.asked = append(f.asked, cgroupID) }

func (f *feed) Dirty() bool { return len(f.pending) > 0 }

func (f *feed) Take(changes []container.Change) []container.Change {
	changes = append(changes, f.pending...)
	f.pending = nil
	return changes
}

func (f *feed) tell(changes ...container.Change) { f.pending = append(f.pending, changes...) }

// Records of these tests: the maker's cgroup, the target's, a number, the maker's
// name, the target's, and where in the tail the target's path is.
const (
	targetAt = 8
	numberAt = 16
	nameAt   = 24
	theirsAt = 28
	tailAt   = 32
	length   = 36
)

var (
	maker   = Identity{Cgroup: 0, Parts: []Part{{Offset: 0, Size: 8}, {Offset: nameAt, Size: 4}}}
	theirs  = Identity{Cgroup: targetAt, Parts: []Part{{Offset: targetAt, Size: 8}, {Offset: theirsAt, Size: 4}, {Offset: tailAt, Size: 4, Tail: true}}}
	inShop  = Selection{Namespaces: []string{"shop"}}
	machine = Selection{Machine: true}
)

func record(cgroup, target, number uint64) []byte {
	r := binary.NativeEndian.AppendUint64(nil, cgroup)
	r = binary.NativeEndian.AppendUint64(r, target)
	r = binary.NativeEndian.AppendUint64(r, number)
	r = append(r, "mineyour"...)
	r = binary.NativeEndian.AppendUint16(r, length)
	r = binary.NativeEndian.AppendUint16(r, 5)
	return append(r, "/path"...)
}

func number(r []byte) uint64 { return binary.NativeEndian.Uint64(r[numberAt:]) }

func pod(ref uint32, namespace, name string, labels ...string) *container.Container {
	c := &container.Container{Ref: ref, ID: fmt.Sprint("id", ref), Name: "web", Pod: container.Pod{Namespace: namespace, Name: name}}
	if len(labels) > 0 {
		c.Pod.Labels = map[string]string{"app": labels[0]}
	}
	return c
}

func known(cgroup uint64, c *container.Container) container.Change {
	return container.Change{CgroupID: cgroup, State: container.Known, Container: c}
}

func state(cgroup uint64, s container.State) container.Change {
	return container.Change{CgroupID: cgroup, State: s}
}

// emitted is a record that came out.
type emitted struct {
	ref, target uint32
	number      uint64
}

// rig is an enricher whose doings are written down.
type rig struct {
	*Enricher
	tb       testing.TB
	feed     feed
	out      []emitted
	bytes    [][]byte
	defined  []*container.Container
	verdicts map[uint64]Verdict
	refuse   bool
	unwanted bool
	in       uint64
}

func newRig(tb testing.TB, opts Options, known ...container.Change) *rig {
	tb.Helper()
	r := &rig{tb: tb, verdicts: map[uint64]Verdict{}}
	r.feed.tell(known...)
	opts.Containers = &r.feed
	opts.Process = maker
	opts.Define = func(c *container.Container) { r.defined = append(r.defined, c) }
	opts.Emit = func(ref, target uint32, record []byte) bool {
		if ref != HostRef {
			require.True(tb, slices.ContainsFunc(r.defined, func(c *container.Container) bool { return c.Ref == ref }), "reference %d is not explained", ref)
		}
		r.out = append(r.out, emitted{ref, target, number(record)})
		r.bytes = append(r.bytes, slices.Clone(record))
		return !r.unwanted
	}
	if opts.Target == nil {
		opts.SetVerdict = func(id uint64, v Verdict) error {
			if r.refuse {
				return errors.New("no room")
			}
			if r.verdicts[id] = v; v == Unknown {
				delete(r.verdicts, id)
			}
			return nil
		}
	}
	e, err := New(opts)
	require.NoError(tb, err)
	r.Enricher = e
	return r
}

func (r *rig) record(cgroup, target, number uint64) {
	r.in++
	r.Record(record(cgroup, target, number))
}

// taken returns what came out since the last call.
func (r *rig) taken() []emitted {
	out := r.out
	r.out, r.bytes = nil, nil
	return out
}

// close checks that nothing is left or unaccounted for, given what was emitted in all.
func (r *rig) close(emitted int) {
	r.tb.Helper()
	r.Release()
	require.Nil(r.tb, r.held.oldest)
	require.Nil(r.tb, r.held.youngest)
	require.Zero(r.tb, r.held.bytes)
	require.Equal(r.tb, r.in, uint64(emitted)+r.Withheld()+r.filtered, "books don't balance")
}
