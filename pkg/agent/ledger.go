// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"time"

	"nodegadget.dev/pkg/wire"
)

// ledger keeps the accounts of all runs, by gadget. The zero value is empty.
type ledger struct {
	mu    sync.Mutex
	live  map[*run]bool
	ended map[string]*account
}

// account is what runs have done. All of it only grows.
type account struct {
	runs, records uint64
	wire.Loss
}

// begin enters a run that is attached.
func (l *ledger) begin(r *run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live == nil {
		l.live, l.ended = map[*run]bool{}, map[string]*account{}
	}
	l.live[r] = true
}

// end closes a run's account, before its programs are unloaded.
func (l *ledger) end(r *run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, r)
	a := l.ended[r.gadget]
	if a == nil {
		a = &account{}
		l.ended[r.gadget] = a
	}
	a.add(r)
}

// accounts are those of all runs there were, by gadget.
func (l *ledger) accounts() map[string]*account {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]*account{}
	for gadget, ended := range l.ended {
		a := &account{runs: ended.runs, records: ended.records}
		a.sum(&ended.Loss)
		all[gadget] = a
	}
	for r := range l.live {
		if all[r.gadget] == nil {
			all[r.gadget] = &account{}
		}
		all[r.gadget].add(r)
	}
	return all
}

// silent is how long the most silent of the runs that should speak has been so.
func (l *ledger) silent(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := time.Duration(0)
	for r := range l.live {
		longest = max(longest, r.silent(now))
	}
	return longest
}

func (a *account) add(r *run) {
	a.runs++
	a.records += r.queue.records.Load()
	// Counters of the kernel that can't be read any more stay as they were told last.
	loss, err := r.loss()
	if err != nil {
		return
	}
	a.sum(loss)
}

func (a *account) sum(loss *wire.Loss) {
	a.Kernel += loss.GetKernel()
	a.Skipped += loss.GetSkipped()
	a.Queue += loss.GetQueue()
	a.Unresolved += loss.GetUnresolved()
	a.Withheld += loss.GetWithheld()
}
