// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	"nodegadget.dev/pkg/enrich"
)

// union is the kernel's container filter of a program that is shared: what one party may
// see gets through. It also knows who may see what got through. A nil union filters nothing.
type union struct {
	// tell tells the kernel.
	tell    func(cgroupID uint64, verdict enrich.Verdict) error
	views   []*view
	cgroups map[uint64]*opinion
	// listeners are the parties that get records; round counts how often they changed.
	listeners []*party
	round     uint64
}

// view is what one party has said about cgroups.
type view struct {
	union *union
	said  map[uint64]enrich.Verdict
}

// opinion is what all parties have said about a cgroup.
type opinion struct {
	in, out int
	// told is what the kernel was told.
	told enrich.Verdict
	// audience are the listeners that have not said Out, as of a round.
	audience []*party
	round    uint64
}

func newUnion(tell func(cgroupID uint64, verdict enrich.Verdict) error) *union {
	return &union{tell: tell, cgroups: map[uint64]*opinion{}, round: 1}
}

// join adds a party, which has not said anything. Refresh is to be called when it has
// said what it knows.
func (u *union) join() *view {
	v := &view{union: u, said: map[uint64]enrich.Verdict{}}
	u.views = append(u.views, v)
	return v
}

// leave forgets a party, and what it has said.
func (u *union) leave(v *view) {
	if u == nil {
		return
	}
	u.views = slices.DeleteFunc(u.views, func(other *view) bool { return other == v })
	for id, verdict := range v.said {
		u.cgroups[id].count(verdict, -1)
	}
	u.refresh()
}

// say notes a party's verdict. The kernel may not have room for all; the party is not to
// know, because its own filter is the one that counts.
func (v *view) say(cgroupID uint64, verdict enrich.Verdict) error {
	o := v.union.cgroups[cgroupID]
	if o == nil {
		o = &opinion{}
		v.union.cgroups[cgroupID] = o
	}
	o.count(v.said[cgroupID], -1)
	o.count(verdict, 1)
	if verdict == enrich.Unknown {
		delete(v.said, cgroupID)
	} else {
		v.said[cgroupID] = verdict
	}
	v.union.settle(cgroupID, o)
	return nil
}

func (o *opinion) count(verdict enrich.Verdict, n int) {
	switch verdict {
	case enrich.In:
		o.in += n
	case enrich.Out:
		o.out += n
	}
}

// refresh tells the kernel what follows from a change of parties.
func (u *union) refresh() {
	if u == nil {
		return
	}
	for id, o := range u.cgroups {
		u.settle(id, o)
	}
}

// settle tells the kernel what all parties together say of a cgroup.
func (u *union) settle(cgroupID uint64, o *opinion) {
	o.round = 0
	verdict := enrich.Unknown
	switch {
	case o.in > 0:
		verdict = enrich.In
	case o.out > 0 && o.out == len(u.views):
		verdict = enrich.Out
	}
	if verdict != o.told && u.tell(cgroupID, verdict) == nil {
		o.told = verdict
	}
	if o.in+o.out == 0 && o.told == enrich.Unknown {
		delete(u.cgroups, cgroupID)
	}
}

// listen says which parties get records.
func (u *union) listen(parties []*party) {
	if u == nil {
		return
	}
	u.listeners = parties
	u.round++
}

// audience are the listeners that may see a cgroup, or don't know yet. It is valid until
// somebody is asked again.
func (u *union) audience(cgroupID uint64) []*party {
	o := u.cgroups[cgroupID]
	if o == nil {
		return u.listeners
	}
	if o.round != u.round {
		o.round, o.audience = u.round, o.audience[:0]
		for _, t := range u.listeners {
			if t.view.said[cgroupID] != enrich.Out {
				o.audience = append(o.audience, t)
			}
		}
	}
	return o.audience
}
