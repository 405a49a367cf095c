// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// entry is what the books of one session say.
type entry struct {
	Sent, Seen, Lost uint64
	// Alone says that Lost counts events of the generator only.
	Alone bool
	// Blind says that a filter hides all of them.
	Blind bool
}

// check says whether every call is accounted for. Where others are traced too and
// something was lost, the loss may be theirs; then only a lower bound can be held.
func (e entry) check() error {
	if e.Blind {
		if e.Seen+e.Lost != 0 {
			return fmt.Errorf("%d seen and %d lost of calls that the filter hides", e.Seen, e.Lost)
		}
		return nil
	}
	if e.Seen > e.Sent {
		return fmt.Errorf("%d seen of %d sent", e.Seen, e.Sent)
	}
	sum := e.Seen + e.Lost
	if sum < e.Sent || sum > e.Sent && (e.Alone || e.Lost == 0) {
		return fmt.Errorf("%d seen + %d lost is not %d sent", e.Seen, e.Lost, e.Sent)
	}
	return nil
}
