// SPDX-License-Identifier: Apache-2.0

package tape

import (
	"container/list"

	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/wire"
)

// maxUnused bounds the explanations, in bytes, that no retained batch needs: those of
// containers that have been silent for long, but may speak again.
const maxUnused = 512 << 10

// explanation is what is known of a reference.
type explanation struct {
	ref uint32
	// container is nil as long as nobody has explained the reference.
	container *wire.Container
	// version grows with each explanation of the tape.
	version uint64
	size    int
	// uses counts the retained batches in which the reference occurs. While there are
	// none, the explanation has a place in the list of those that may be forgotten.
	uses   int
	unused *list.Element
}

// explanations are the newest of each reference.
type explanations struct {
	known   map[uint32]*explanation
	version uint64
	// used and spare are the bytes of those that retained batches need, and of the others.
	used, spare int
	// unused begins with the one that has been so for the shortest time.
	unused list.List
}

// learn takes a new explanation in place of an older one.
func (x *explanations) learn(c *wire.Container) {
	e := x.get(c.GetRef())
	x.account(e, -e.size)
	x.version++
	e.container, e.version, e.size = c, x.version, proto.Size(c)+overhead
	x.account(e, e.size)
	if e.unused != nil {
		x.unused.MoveToFront(e.unused)
	}
}

// get is what is known of a reference, which may be nothing.
func (x *explanations) get(ref uint32) *explanation {
	e := x.known[ref]
	if e == nil {
		e = &explanation{ref: ref, size: overhead}
		e.unused = x.unused.PushFront(e)
		x.spare += e.size
		x.known[ref] = e
	}
	return e
}

func (x *explanations) account(e *explanation, bytes int) {
	if e.unused == nil {
		x.used += bytes
	} else {
		x.spare += bytes
	}
}

// use notes that a batch that is now retained needs the reference.
func (x *explanations) use(e *explanation) {
	if e.unused != nil {
		x.account(e, -e.size)
		x.unused.Remove(e.unused)
		e.unused = nil
		x.account(e, e.size)
	}
	e.uses++
}

// release notes that a batch that needed the reference has fallen out.
func (x *explanations) release(ref uint32) {
	e := x.known[ref]
	if e.uses--; e.uses > 0 {
		return
	}
	x.account(e, -e.size)
	e.unused = x.unused.PushFront(e)
	x.account(e, e.size)
}

// forget forgets those that have not been used for the longest time, as far as they
// are too many.
func (x *explanations) forget() {
	for x.spare > maxUnused {
		e := x.unused.Remove(x.unused.Back()).(*explanation)
		x.spare -= e.size
		delete(x.known, e.ref)
	}
}
