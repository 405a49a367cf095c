// SPDX-License-Identifier: Apache-2.0

package live

import "syscall"

func creatSyscall(path string, mode uint32) (int, error) { return syscall.Creat(path, mode) }
