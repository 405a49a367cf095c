// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"time"
)

// sample is one run of one case.
type sample struct {
	Flood floodResult `json:"flood"`
	// Seen are the generator's events, per session on average; Others those of
	// everybody else.
	Seen   uint64 `json:"seen"`
	Others uint64 `json:"others"`
	// Lost is what the tool says that it lost, Skipped what it says that the
	// kernel left out.
	Lost    uint64 `json:"lost"`
	Skipped uint64 `json:"skipped"`
	// Attach is the time from the start until the tool says that it is attached.
	Attach time.Duration `json:"attach_ns"`
	// First is the time from the start until the first event is there to be read.
	First time.Duration `json:"first_ns"`
	// Total is the processor time of the tool's whole life, Load that since it was
	// attached.
	Total  cpuTime `json:"total"`
	Load   cpuTime `json:"load"`
	Memory memory  `json:"memory"`
	// Unbalanced says why the books don't balance, if so.
	Unbalanced string `json:"unbalanced,omitempty"`
}

// read fills in what a rig that has ended leaves behind.
func (s *sample) read(r *rig) error {
	s.Total = r.main.cpu()
	s.Load = s.Total.minus(r.before)
	var err error
	switch {
	case r.tool.Agent != nil:
		err = s.readSessions(r)
	case r.tool.Ours:
		err = s.readOurs(r)
	default:
		err = s.readPeer(r)
	}
	return err
}

func (s *sample) readPeer(r *rig) error {
	t, err := tallyFile(r.main.out, r.tool.Match)
	if err != nil {
		return err
	}
	s.count(t, r.tool)
	s.Lost = t.Lost + parseLost(r.main.stderr())
	return nil
}

// count takes over what is in the tool's output. Lines that tell of a loss are
// among Others; there are few.
func (s *sample) count(t tally, tool *tool) {
	s.Seen = t.Matched
	s.Others = t.Lines - min(t.Lines, t.Matched+tool.Headers)
}

func (s *sample) readOurs(r *rig) error {
	sum, err := parseSummary(r.main.stderr())
	if err != nil {
		return r.main.complain(err)
	}
	s.Lost, s.Skipped = sum.Lost, sum.Skipped
	if r.tool.Silent {
		s.Seen = sum.Events
	} else {
		t, err := tallyFile(r.main.out, r.tool.Match)
		if err != nil {
			return err
		}
		s.count(t, r.tool)
		if written := t.Lines - min(t.Lines, r.tool.Headers); t.Torn || written != sum.Events {
			s.unbalanced(fmt.Errorf("%d events written, %d in the summary", written, sum.Events))
		}
	}
	s.unbalanced(s.entry(r.tool, sum.Lost, s.Seen).check())
	return nil
}

// readSessions checks the books of every client; the sample has their mean.
func (s *sample) readSessions(r *rig) error {
	if len(r.clients) == 0 {
		return nil
	}
	for i, client := range r.clients {
		sum, err := parseSummary(client.stderr())
		if err != nil {
			return client.complain(err)
		}
		s.Seen += sum.Events
		s.Lost += sum.Lost
		s.Skipped += sum.Skipped
		if err := s.entry(r.tool, sum.Lost, sum.Events).check(); err != nil {
			s.unbalanced(fmt.Errorf("session %d: %w", i+1, err))
		}
	}
	n := uint64(len(r.clients))
	s.Seen, s.Lost, s.Skipped = s.Seen/n, s.Lost/n, s.Skipped/n
	return nil
}

func (s *sample) entry(t *tool, lost, seen uint64) entry {
	return entry{Sent: s.Flood.Calls, Seen: seen, Lost: lost, Alone: t.Alone, Blind: t.Blind}
}

func (s *sample) unbalanced(err error) {
	if err == nil {
		return
	}
	if s.Skipped > 0 {
		err = errors.Join(err, fmt.Errorf("the kernel left out %d program runs", s.Skipped))
	}
	if s.Unbalanced != "" {
		s.Unbalanced += "; "
	}
	s.Unbalanced += err.Error()
}
