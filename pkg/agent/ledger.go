// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"time"

	"nodegadget.dev/pkg/wire"
)

// ledger keeps the accounts of all runs, by gadget. What programs lose in the kernel is
// counted once, however many share them. The zero value is empty.
type ledger struct {
	mu     sync.Mutex
	live   map[*member]bool
	loaded map[*program]bool
	ended  map[string]*account
}

// account is what runs have done. All of it only grows.
type account struct {
	runs, records uint64
	wire.Loss
}

// load enters a program that is attached.
func (l *ledger) load(p *program) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded == nil {
		l.loaded = map[*program]bool{}
	}
	l.loaded[p] = true
}

// unload closes a program's account, before it is unloaded.
func (l *ledger) unload(p *program) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.loaded, p)
	l.closed(p.plan.object.Spec.Name).addKernel(p)
}

// begin enters a member of a program.
func (l *ledger) begin(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live == nil {
		l.live = map[*member]bool{}
	}
	l.live[m] = true
}

// end closes a member's account.
func (l *ledger) end(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, m)
	l.closed(m.gadget()).add(m)
}

// closed is the account of all that has ended of a gadget.
func (l *ledger) closed(gadget string) *account {
	if l.ended == nil {
		l.ended = map[string]*account{}
	}
	if l.ended[gadget] == nil {
		l.ended[gadget] = &account{}
	}
	return l.ended[gadget]
}

// accounts are those of all runs there were, by gadget.
func (l *ledger) accounts() map[string]*account {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]*account{}
	of := func(gadget string) *account {
		if all[gadget] == nil {
			all[gadget] = &account{}
		}
		return all[gadget]
	}
	for gadget, ended := range l.ended {
		a := of(gadget)
		a.runs, a.records = ended.runs, ended.records
		a.Loss.Add(&ended.Loss)
	}
	for m := range l.live {
		of(m.gadget()).add(m)
	}
	for p := range l.loaded {
		of(p.plan.object.Spec.Name).addKernel(p)
	}
	return all
}

// programs counts those that are loaded.
func (l *ledger) programs() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.loaded)
}

// silent is how long the most silent of the programs that should speak has been so.
func (l *ledger) silent(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := time.Duration(0)
	for p := range l.loaded {
		longest = max(longest, p.silent(now))
	}
	return longest
}

// add adds what is a member's own.
func (a *account) add(m *member) {
	a.runs++
	a.records += m.records()
	// Without the kernel's counters it is still told what came of the rest.
	loss, _ := m.loss()
	own := &wire.Loss{
		Queue: loss.GetQueue(), Unresolved: loss.GetUnresolved(), Withheld: loss.GetWithheld(), Throttled: loss.GetThrottled(),
	}
	a.Loss.Add(own)
}

// addKernel adds what was lost before it could be anybody's.
func (a *account) addKernel(p *program) {
	lost, err := p.source.Lost()
	// Counters that can't be read any more stay as they were told last.
	if err != nil {
		return
	}
	a.Kernel += lost.Records + p.crowded.Load()
	a.Skipped += lost.Skipped
}
