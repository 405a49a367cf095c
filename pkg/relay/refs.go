// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/wire"
)

const (
	// A generation of references ends with so many, or when their explanations take so
	// many bytes. Those that are still in use live on in the next one.
	maxGeneration      = 64 << 10
	maxGenerationBytes = 8 << 20
)

// refs turns one agent's references to containers into the session's. One goroutine
// uses it; only explained may be called by others.
type refs struct {
	node uint32
	// next is the session's counter.
	next *atomic.Uint32
	// Most records are of the container that the one before was of.
	last, lastRelay uint32
	// fresh are explanations that have to be sent before the next batch.
	fresh []*wire.Container
	size  int

	// mu is for explained: the goroutine that writes reads without it.
	mu sync.Mutex
	// now and before are the generations, past those of the agent's run before.
	now, before, past map[uint32]*wire.Container
}

func newRefs(node uint32, next *atomic.Uint32) *refs {
	return &refs{node: node, next: next, now: map[uint32]*wire.Container{}}
}

// reset forgets what references mean: another run of the agent has its own.
func (r *refs) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.lastRelay, r.size = 0, 0, 0
	r.past = map[uint32]*wire.Container{}
	for _, generation := range []map[uint32]*wire.Container{r.before, r.now} {
		for ref, c := range generation {
			r.past[ref] = c
		}
	}
	r.now, r.before = map[uint32]*wire.Container{}, nil
}

// explain takes the agent's explanations and makes them the session's.
func (r *refs) explain(containers []*wire.Container) {
	for _, c := range containers {
		ref := c.GetRef()
		relay := uint32(0)
		if known := r.known(ref); known != nil {
			relay = known.GetRef()
		}
		r.put(ref, relay, c)
	}
}

// relay is the session's reference for the agent's.
func (r *refs) relay(ref uint32) uint32 {
	if ref == r.last && r.lastRelay != 0 {
		return r.lastRelay
	}
	c := r.known(ref)
	if c == nil {
		// The agent has broken its promise, or the reference has not been used for long.
		c = &wire.Container{Kind: wire.Container_UNRESOLVED}
		if ref == 0 {
			c.Kind = wire.Container_HOST
		}
		r.put(ref, 0, c)
	}
	r.last, r.lastRelay = ref, c.GetRef()
	return r.lastRelay
}

func (r *refs) known(ref uint32) *wire.Container {
	if c := r.now[ref]; c != nil {
		return c
	}
	c := r.before[ref]
	if c != nil {
		r.keep(ref, c)
	}
	return c
}

// put explains a reference, under a new one of the session if relay is 0.
func (r *refs) put(ref, relay uint32, c *wire.Container) {
	if relay == 0 {
		relay = r.next.Add(1)
	}
	c.Ref, c.Node = relay, r.node
	r.keep(ref, c)
	r.fresh = append(r.fresh, c)
}

func (r *refs) keep(ref uint32, c *wire.Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.now) >= maxGeneration || r.size >= maxGenerationBytes {
		r.before, r.now, r.size = r.now, map[uint32]*wire.Container{}, 0
	}
	r.now[ref] = c
	r.size += proto.Size(c)
}

// take returns the explanations that have to be sent, as a message, or nil.
func (r *refs) take() *wire.RunResponse {
	if len(r.fresh) == 0 {
		return nil
	}
	containers := &wire.Containers{Containers: r.fresh}
	r.fresh = nil
	return &wire.RunResponse{Node: r.node, Response: &wire.RunResponse_Containers{Containers: containers}}
}

// explained returns all explanations that hold.
func (r *refs) explained() []*wire.Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*wire.Container
	for _, generation := range []map[uint32]*wire.Container{r.past, r.before, r.now} {
		for _, c := range generation {
			all = append(all, c)
		}
	}
	return all
}
