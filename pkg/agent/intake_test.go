// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/wire"
)

// news are what a registry tells, from another goroutine.
type news struct {
	mu      sync.Mutex
	pending []container.Change
}

func (n *news) Dirty() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.pending) > 0
}

func (n *news) Ask(uint64) {}

func (n *news) Take(changes []container.Change) []container.Change {
	n.mu.Lock()
	defer n.mu.Unlock()
	changes = append(changes, n.pending...)
	n.pending = nil
	return changes
}

func (n *news) tell(cgroup uint64, c *container.Container) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending = append(n.pending, container.Change{CgroupID: cgroup, State: container.Known, Container: c})
}

func shopPod(ref uint32) *container.Container {
	return &container.Container{Ref: ref, Name: "web", Pod: container.Pod{Namespace: "shop", Name: fmt.Sprint("cart-", ref)}}
}

// made is a record of a cgroup.
func made(cgroup, number uint64) []byte {
	return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, cgroup), number)
}

func newShopParty(t *testing.T, n *news, interval bool) *party {
	t.Helper()
	q := newQueue(DefaultQueueSize, nil, interval)
	in, err := newIntake(q, &enrich.Options{Containers: n, Selection: enrich.Selection{Namespaces: []string{"shop"}}})
	require.NoError(t, err)
	return &party{intake: in}
}

func TestIntakeWithoutContainersLetsAllThrough(t *testing.T) {
	in, err := newIntake(newQueue(DefaultQueueSize, nil, false), nil)
	require.NoError(t, err)
	in.taker()(made(1, 1))
	in.flush()
	require.False(t, in.waiting())
	in.release()
	p := <-in.queue.batches
	for ref := range p.All() {
		require.Zero(t, ref)
	}
	unresolved, withheld := in.counts()
	require.Zero(t, unresolved+withheld)
}

// TestLastRecordsGetTheirContainer although its name comes when the run has ended.
func TestLastRecordsGetTheirContainer(t *testing.T) {
	n := &news{}
	m := newShopParty(t, n, false)
	m.intake.record(made(1, 0))
	m.intake.flush()
	require.Empty(t, m.intake.queue.batches)
	late := time.AfterFunc(50*time.Millisecond, func() { n.tell(1, shopPod(7)) })
	defer late.Stop()
	settle(lastHold, m)
	p := <-m.intake.queue.batches
	require.Equal(t, []*container.Container{shopPod(7)}, p.containers)
	for ref := range p.All() {
		require.EqualValues(t, 7, ref)
	}
}

// TestIntervalEndsWithItsOwnRows: none of them slips into the next. All parties wait
// together.
func TestIntervalEndsWithItsOwnRows(t *testing.T) {
	n, other := &news{}, &news{}
	n.tell(1, shopPod(1))
	m := newShopParty(t, n, true)
	parties := []*party{m, newShopParty(t, other, true), newShopParty(t, other, true)}
	for _, waits := range parties[1:] {
		waits.intake.record(made(3, 0))
	}
	m.intake.record(made(1, 0))
	m.intake.record(made(2, 1))
	m.intake.record(made(3, 2))
	late := time.AfterFunc(20*time.Millisecond, func() { n.tell(2, shopPod(2)) })
	defer late.Stop()
	begin := time.Now()
	settle(intervalHold, parties...)
	require.GreaterOrEqual(t, time.Since(begin), intervalHold)
	require.Less(t, time.Since(begin), 2*intervalHold)
	m.intake.record(made(1, 3))
	settle(intervalHold, parties...)
	m.intake.queue.close()
	var refs [][]uint32
	for p := range m.intake.queue.batches {
		require.True(t, p.IntervalEnd)
		var of []uint32
		for ref := range p.All() {
			of = append(of, ref)
		}
		refs = append(refs, of)
	}
	require.Equal(t, [][]uint32{{1, 2}, {1}}, refs)
	_, withheld := m.intake.counts()
	require.EqualValues(t, 1, withheld)
}

func TestContainerMessages(t *testing.T) {
	require.Empty(t, containerMessages(nil))
	full := &container.Container{
		Ref: 3, ID: "abc", Name: "web", Image: "shop/cart:1", ImageDigest: "sha256:1", Runtime: "containerd", Stale: true,
		Pod: container.Pod{
			Namespace: "shop", Name: "cart-1", UID: "u", Labels: map[string]string{"app": "cart"}, OwnerKind: "Deployment", OwnerName: "cart",
		},
	}
	messages := containerMessages([]*container.Container{full, {Ref: enrich.UnresolvedRef, Unresolved: true}})
	require.Len(t, messages, 1)
	got := messages[0].GetContainers()
	require.Equal(t, `ref:3 id:"abc" name:"web" namespace:"shop" pod:"cart-1" pod_uid:"u" pod_labels:{key:"app" value:"cart"} `+
		`owner_kind:"Deployment" owner_name:"cart" image:"shop/cart:1" image_digest:"sha256:1" runtime:"containerd" stale:true`,
		strings.ReplaceAll(got[0].String(), "  ", " "))
	require.Equal(t, wire.Container_UNRESOLVED, got[1].GetKind())

	// Many pods with many labels don't fit into one message.
	var many []*container.Container
	for i := range 100 {
		many = append(many, &container.Container{Ref: uint32(i), Pod: container.Pod{Labels: map[string]string{"a": strings.Repeat("x", 100_000)}}})
	}
	messages = containerMessages(many)
	ref := uint32(0)
	for _, m := range messages {
		require.Less(t, len(m.String()), wire.MaxMessage/2)
		for _, c := range m.GetContainers() {
			require.Equal(t, ref, c.GetRef())
			ref++
		}
	}
	require.EqualValues(t, 100, ref)
}
