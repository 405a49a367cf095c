// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// children are the processes of the machine whose end matters to somebody. All others
// are reaped when they end: a first process gets those that have lost their parents.
type children struct {
	mu   sync.Mutex
	ends map[int]chan<- unix.WaitStatus
}

func newChildren() *children {
	c := &children{ends: map[int]chan<- unix.WaitStatus{}}
	go c.reap()
	return c
}

// start starts a command, whose end the channel tells. The command's Wait must not be
// called, and so its output must be files.
func (c *children) start(cmd *exec.Cmd) (<-chan unix.WaitStatus, error) {
	end := make(chan unix.WaitStatus, 1)
	// reap waits for the lock before it looks who has ended.
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.ends[cmd.Process.Pid] = end
	return end, nil
}

func (c *children) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			continue
		}
		c.mu.Lock()
		if end, ok := c.ends[pid]; ok {
			end <- status
			delete(c.ends, pid)
		}
		c.mu.Unlock()
	}
}

// exitCode is the one that a shell would show.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
