// SPDX-License-Identifier: Apache-2.0

// Package pidns says whether this process sees all processes of the machine, or only
// those of a PID namespace further in.
package pidns

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// first is the inode of the machine's first PID namespace (PROC_PID_INIT_INO in
// include/linux/proc_ns.h).
const first = 0xEFFFFFFC

// First says whether the calling thread is in the machine's first PID namespace. In others
// process ids aren't those of struct task_struct, and the kernel's iterators over tasks
// show no process outside of them.
func First() (bool, error) {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/pid", &stat); err != nil {
		return false, fmt.Errorf("looking for the own PID namespace: %w", err)
	}
	return stat.Ino == first, nil
}
