// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to end in good order.
const stopTimeout = time.Minute

// process is a program that writes to files, so that nothing of ours stands
// between it and the disk.
type process struct {
	cmd      *exec.Cmd
	begun    time.Time
	out, err string
	done     chan struct{}
	// failed is why it ended, valid when done is closed.
	failed error
}

// startProcess starts argv with stdout; nil means a file of its own. Its files
// are dir/name.out and dir/name.err.
func startProcess(dir, name string, argv []string, stdout *os.File) (*process, error) {
	p := &process{
		out: filepath.Join(dir, name+".out"), err: filepath.Join(dir, name+".err"), done: make(chan struct{}),
	}
	if stdout == nil {
		file, err := os.Create(p.out)
		if err != nil {
			return nil, fmt.Errorf("starting %s: %w", name, err)
		}
		defer file.Close()
		stdout = file
	}
	stderr, err := os.Create(p.err)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer stderr.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	// A group of its own: a terminal's interrupt must not stop it before its time.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.begun = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		p.failed = p.cmd.Wait()
	}()
	return p, nil
}

// await looks every interval whether ready says so, until the timeout.
func (p *process) await(ctx context.Context, timeout, interval time.Duration, ready func() bool) error {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if ready() {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return p.complain(fmt.Errorf("not attached after %v", timeout))
		case <-p.done:
			return p.complain(fmt.Errorf("it ended before it was attached: %w", p.ending()))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errNoError = errors.New("without an error")

// ending is why it ended, though nobody had asked it to.
func (p *process) ending() error {
	if p.failed != nil {
		return p.failed
	}
	return errNoError
}

// interrupt asks for the end, and wait waits for it.
func (p *process) interrupt() {
	// If it is gone already, wait says so.
	_ = p.cmd.Process.Signal(syscall.SIGINT)
}

func (p *process) wait() error {
	limit := time.NewTimer(stopTimeout)
	defer limit.Stop()
	select {
	case <-p.done:
		if p.failed != nil {
			return p.complain(p.failed)
		}
		return nil
	case <-limit.C:
		p.kill()
		return p.complain(fmt.Errorf("still there %v after its interrupt", stopTimeout))
	}
}

// kill ends it at once. It may be called at any time, also twice.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stderr is what it has said so far.
func (p *process) stderr() string {
	text, err := os.ReadFile(p.err)
	if err != nil {
		return ""
	}
	return string(text)
}

// complain adds the last line of stderr to an error.
func (p *process) complain(err error) error {
	lines := strings.Split(strings.TrimSpace(p.stderr()), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return fmt.Errorf("%w: %s", err, last)
	}
	return err
}

// cpu is what the process has used in all; it must have ended.
func (p *process) cpu() cpuTime {
	state := p.cmd.ProcessState
	return cpuTime{User: state.UserTime(), System: state.SystemTime()}
}
