// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"time"
)

// startup measures the time from a tool's start to its first event. The tool
// writes to a terminal, because many keep back what they write to a file, and
// something is to be traced every 5 ms.
func (b *bencher) startup(ctx context.Context, c testCase, dir string) (sample, error) {
	master, user, err := openPTY()
	if err != nil {
		return sample{}, err
	}
	defer master.Close()
	probe, err := b.startProbe(c.Kind, dir)
	if err != nil {
		user.Close()
		return sample{}, err
	}
	defer probe.kill()
	p, err := startProcess(dir, "tool", c.Tool.Argv, user)
	user.Close()
	if err != nil {
		return sample{}, err
	}
	defer p.kill()
	first := make(chan time.Time, 1)
	go watch(master, []byte(probeComm), first)

	var s sample
	if c.Tool.Ours {
		if err := p.await(ctx, attachTimeout, time.Millisecond, p.attached); err != nil {
			return s, err
		}
		s.Attach = time.Since(p.begun)
	}
	seen := func() bool {
		select {
		case at := <-first:
			s.First = at.Sub(p.begun)
			return true
		default:
			return false
		}
	}
	if err := p.await(ctx, attachTimeout, time.Millisecond, seen); err != nil {
		return s, err
	}
	p.interrupt()
	if err := p.wait(); err != nil && c.Tool.Ours {
		return s, err
	}
	s.Total = p.cpu()
	return s, nil
}

// watch reads until the terminal is closed, and says when the marker first came.
func watch(master *os.File, marker []byte, first chan<- time.Time) {
	buf := make([]byte, 64<<10)
	var seen []byte
	found := false
	for {
		n, err := master.Read(buf)
		if !found && n > 0 {
			seen = append(seen, buf[:n]...)
			if found = bytes.Contains(seen, marker); found {
				first <- time.Now()
				seen = nil
			}
		}
		if err != nil {
			return
		}
	}
}
