// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own, which ends with it. Whatever f changes of
// the thread (namespaces, cgroup, working directory), processes that it starts
// inherit, and no other goroutine sees.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// What /proc shows of this process is the main thread's. While this goroutine
			// holds it, f gets another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		// Never unlocked: so the thread isn't used again.
		done <- f()
	}()
	return <-done
}

// namespaces are what the processes of a node see. The open files keep them.
type namespaces struct {
	mounts, network, host *os.File
}

// currentNamespaces opens those of the calling thread.
func currentNamespaces() (*namespaces, error) {
	n := &namespaces{}
	for name, file := range map[string]**os.File{"mnt": &n.mounts, "net": &n.network, "uts": &n.host} {
		opened, err := os.Open("/proc/thread-self/ns/" + name)
		if err != nil {
			return nil, err
		}
		*file = opened
	}
	return n, nil
}

// join moves the calling thread.
func (n *namespaces) join() error {
	// The kernel changes mounts only of threads that share no working directory.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unsharing the working directory: %w", err)
	}
	for file, kind := range map[*os.File]int{
		n.mounts: unix.CLONE_NEWNS, n.network: unix.CLONE_NEWNET, n.host: unix.CLONE_NEWUTS,
	} {
		if err := unix.Setns(int(file.Fd()), kind); err != nil {
			return fmt.Errorf("joining %s: %w", file.Name(), err)
		}
	}
	return nil
}
