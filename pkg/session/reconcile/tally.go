// SPDX-License-Identifier: Apache-2.0

package reconcile

import "math"

// tally is a sum over nodes whose counters restart, kept by controllers that restart. It
// never goes backwards.
type tally struct {
	// floor is what the status said when this controller began.
	floor uint64
	// inherited is the sum of what nodes had counted before that: the floor has most of
	// it, perhaps without the last seconds.
	inherited uint64
	// grown is what was counted since.
	grown uint64
}

// total is at least what any controller has ever said.
func (t *tally) total() int64 {
	return int64(min(plus(max(t.floor, t.inherited), t.grown), math.MaxInt64))
}

// add counts a node's counter. Before is what it was when last heard of; restarted says
// that it began at 0 since. Known says that the node was heard of before, old that it
// began to count before this controller did.
func (t *tally) add(before, now uint64, restarted, known, old bool) {
	switch {
	case !known && old:
		t.inherited = plus(t.inherited, now)
	case !known || restarted || now < before:
		t.grown = plus(t.grown, now)
	default:
		t.grown = plus(t.grown, now-before)
	}
}

func plus(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// floorOf is a count that a status has.
func floorOf(count int64) uint64 { return uint64(max(count, 0)) }
