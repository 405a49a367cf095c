// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv marks the second process.
const insideEnv = "NODEGADGET_E2E_INSIDE=1"

// aliveFD is a pipe of the second process that the first one holds open.
const aliveFD = 3

// sweepTimeout bounds the end of all processes. Killed ones end in milliseconds,
// unless the kernel is busy with them.
const sweepTimeout = time.Minute

// Main brings up a cluster, calls use with it and returns what that returns, for
// [os.Exit]. It calls use in another process with the same arguments; see the
// package's comment. A program calls Main before it does anything else that
// can be seen.
func Main(opts Options, use func(*Cluster) int) int {
	opts = opts.withDefaults()
	run := supervise
	if isInside() {
		run = func(opts Options) (int, error) { return inside(opts, use) }
	}
	code, err := run(opts)
	if err != nil {
		opts.logf("%v", err)
		return 1
	}
	return code
}

func isInside() bool { return os.Getenv("NODEGADGET_E2E_INSIDE") == "1" }

// inside is the second process.
func inside(opts Options, use func(*Cluster) int) (int, error) {
	// Programs that the test starts are clients, and may be tests too.
	if err := os.Unsetenv("NODEGADGET_E2E_INSIDE"); err != nil {
		return 0, err
	}
	go endWithFirst()
	ctx, cancel := context.WithTimeout(context.Background(), upTimeout)
	c, err := up(ctx, opts)
	cancel()
	if err != nil {
		return 0, fmt.Errorf("bringing up the cluster: %w", err)
	}
	return use(c), nil
}

// supervise is the first process.
func supervise(opts Options) (int, error) {
	unlock, err := lock(opts.Dir+".lock", func() { opts.logf("waiting for another cluster in %s to end", opts.Dir) })
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := sweep(opts); err != nil {
		return 0, fmt.Errorf("removing an earlier cluster: %w", err)
	}
	code, err := again(opts)
	begin := time.Now()
	if err := errors.Join(err, sweep(opts)); err != nil {
		return 0, err
	}
	left, err := leftovers(opts)
	if err != nil {
		return 0, err
	}
	if len(left) > 0 {
		return 0, fmt.Errorf("the cluster is still in %v", left)
	}
	opts.logf("down in %.1f s, nothing is left", time.Since(begin).Seconds())
	return code, nil
}

// lock makes clusters of one directory run after each other: the second waits, and is told.
func lock(path string, waiting func()) (unlock func(), err error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			waiting()
			err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if isAt(file, path) {
			return func() {
				_ = os.Remove(path)
				file.Close()
			}, nil
		}
		// Who held it has removed it, and others may lock a new one.
		file.Close()
	}
}

// isAt tells whether the path still leads to the file.
func isAt(file *os.File, path string) bool {
	opened, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}

// again runs this program inside, and returns its exit code.
func again(opts Options) (int, error) {
	// Of the cluster's cgroups, so that nothing outlives them that it starts.
	g, err := makeGroup(opts.name() + "/tests")
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	alive, ours, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	cmd.ExtraFiles = []*os.File{alive}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	err = onThread(func() error { return place{group: g}.enterAndStart(cmd) })
	alive.Close()
	if err != nil {
		return 0, fmt.Errorf("starting %s in namespaces of its own: %w", filepath.Base(os.Args[0]), err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go forward(signals, cmd.Process, ended)
	err = cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitCode(cmd.ProcessState), nil
	}
	return 0, err
}

// forward passes signals on until the process has ended.
func forward(signals <-chan os.Signal, process *os.Process, ended <-chan struct{}) {
	for {
		select {
		case s := <-signals:
			// A terminal has told it already; twice does no harm.
			_ = process.Signal(s)
		case <-ended:
			return
		}
	}
}

// endWithFirst ends the second process when the first one is gone.
func endWithFirst() {
	// Nothing is ever written: the end of the file is that of the first process.
	_, _ = os.NewFile(aliveFD, "alive").Read(make([]byte, 1))
	os.Exit(1)
}

// exitCode is the one that a shell would show.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// sweep ends the processes of a cluster, and removes its cgroups and directory.
func sweep(opts Options) error {
	g, err := findGroup(opts.name())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
	defer cancel()
	if err := g.kill(ctx); err != nil {
		return err
	}
	if err := g.remove(ctx); err != nil {
		return err
	}
	return os.RemoveAll(opts.Dir)
}
