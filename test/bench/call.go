// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nameThread gives the calling thread the name by which tools know it.
func nameThread(name string) error {
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return fmt.Errorf("--comm: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0); err != nil {
		return fmt.Errorf("naming the thread: %w", err)
	}
	return nil
}

// newCall returns a function that makes one call and says whether it worked.
func newCall(opts floodOptions) (func() bool, error) {
	if opts.Kind == "exec" {
		return execCall(opts.File), nil
	}
	name, err := unix.BytePtrFromString(opts.File)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	return func() bool { return openAndClose(name) }, nil
}

// openAndClose goes to the kernel without telling Go's scheduler, and allocates
// nothing. It is openat, because that is what C libraries call for open.
func openAndClose(name *byte) bool {
	here := unix.AT_FDCWD
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(name)),
		unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return false
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	return errno == 0
}

// execCall starts a program, by vfork and execve, and waits for its end.
func execCall(file string) func() bool {
	argv := []string{file}
	attr := &syscall.ProcAttr{}
	return func() bool {
		pid, err := syscall.ForkExec(file, argv, attr)
		if err != nil {
			return false
		}
		for {
			var status syscall.WaitStatus
			_, err := syscall.Wait4(pid, &status, 0, nil)
			if err == syscall.EINTR {
				continue
			}
			return err == nil && status.ExitStatus() == 0
		}
	}
}
