// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
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

// stopTimeout is how long a daemon may take to end in good order.
const stopTimeout = 10 * time.Second

// place is where processes run.
type place struct {
	group  *group
	spaces *namespaces // nil: those of this process
	logs   string      // directory
}

// command makes a command there. It must be started by the function.
func (p place) command(ctx context.Context, argv ...string) (cmd *exec.Cmd, start func() error) {
	cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	// Nothing of the caller's. Collecting garbage less often makes a pod cost a quarter
	// less, and the daemons a few hundred megabytes bigger.
	cmd.Env = []string{"PATH=" + strings.Join(searchPath, ":"), "HOME=/root", "GOGC=400"}
	// A process group of its own: a terminal's interrupt ends the tests, and they
	// end the cluster.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, func() error { return onThread(func() error { return p.enterAndStart(cmd) }) }
}

func (p place) enterAndStart(cmd *exec.Cmd) error {
	v2, err := p.group.enter()
	if err != nil {
		return err
	}
	if v2 != nil {
		defer v2.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(v2.Fd())
	}
	if p.spaces != nil {
		if err := p.spaces.join(); err != nil {
			return err
		}
	}
	return cmd.Start()
}

// output runs a command there and returns what it prints.
func (p place) output(ctx context.Context, argv ...string) (string, error) {
	cmd, start := p.command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Process is a daemon of the cluster. It runs when the cluster is up; tests may
// stop it and start it again.
type Process struct {
	// Name is its own and its log's.
	Name string

	place
	argv []string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// daemon starts one there.
func (p place) daemon(name string, argv ...string) (*Process, error) {
	process := &Process{Name: name, place: p, argv: argv}
	return process, process.Start()
}

func (p *Process) logFile() string { return filepath.Join(p.logs, p.Name+".log") }

// Start starts it, unless it runs. Its log goes on.
func (p *Process) Start() error {
	if p.done != nil && p.running() == nil {
		return nil
	}
	log, err := os.OpenFile(p.logFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, start := p.command(context.Background(), p.argv...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		defer close(done)
		_ = cmd.Wait() // its log has more to say than its status
	}()
	return nil
}

// Stop asks it to end, kills it if it doesn't, and returns when it has ended.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

// Kill kills it, and returns when it has ended.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL) }

func (p *Process) end(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", p.Name, err)
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return nil
}

// running returns an error with the end of the log if it isn't.
func (p *Process) running() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended:\n%s", p.Name, p.tail())
	default:
		return nil
	}
}

// tail is the end of the log.
func (p *Process) tail() string {
	text, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
