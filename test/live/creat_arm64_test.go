// SPDX-License-Identifier: Apache-2.0

package live

import "syscall"

// creatSyscall is what creat(3) does where there is no creat(2).
func creatSyscall(path string, mode uint32) (int, error) {
	return syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC, mode)
}
