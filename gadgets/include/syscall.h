/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * syscall.h: which system call a task is in, from the registers that the
 * sys_enter and sys_exit tracepoints carry, 32-bit processes included.
 */
#pragma once

#include "gadget.h"

/* Numbers that gadgets ask for, per table: native and 32-bit compatibility. */
#if defined(__TARGET_ARCH_x86)
#define NR_OPEN 2
#define NR_CREAT 85
#define NR_OPENAT 257
#define NR_OPENAT2 437
#define NR_EXECVE 59
#define NR_EXECVEAT 322
#define NR_COMPAT_OPEN 5
#define NR_COMPAT_CREAT 8
#define NR_COMPAT_OPENAT 295
#define NR_COMPAT_OPENAT2 437
#define NR_COMPAT_EXECVE 11
#define NR_COMPAT_EXECVEAT 358
#define NR_BIND 49
#define NR_COMPAT_BIND 361
#define NR_COMPAT_SOCKETCALL 102
#define NR_EXIT 60
#define NR_EXIT_GROUP 231
#define NR_COMPAT_EXIT 1
#define NR_COMPAT_EXIT_GROUP 252
#elif defined(__TARGET_ARCH_arm64)
#define NR_OPEN -2 /* arm64 has neither open nor creat */
#define NR_CREAT -2
#define NR_OPENAT 56
#define NR_OPENAT2 437
#define NR_EXECVE 221
#define NR_EXECVEAT 281
#define NR_COMPAT_OPEN 5
#define NR_COMPAT_CREAT 8
#define NR_COMPAT_OPENAT 322
#define NR_COMPAT_OPENAT2 437
#define NR_COMPAT_EXECVE 11
#define NR_COMPAT_EXECVEAT 387
#define NR_BIND 200
#define NR_COMPAT_BIND 282
#define NR_COMPAT_SOCKETCALL -2
#define NR_EXIT 93
#define NR_EXIT_GROUP 94
#define NR_COMPAT_EXIT 1
#define NR_COMPAT_EXIT_GROUP 248
#endif

/* GADGET_READ reads a member: directly where the verifier knows the pointer, else by probing. */
#define GADGET_READ(trusted, pointer, member)                                                      \
	((trusted) ? (pointer)->member : BPF_CORE_READ(pointer, member))

/* gadget_is_compat says whether the current task's system call is a 32-bit one. */
static __always_inline bool gadget_is_compat(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(task, thread_info.status) & 2; /* TS_COMPAT */
#elif defined(__TARGET_ARCH_arm64)
	return BPF_CORE_READ(task, thread_info.flags) & (1 << 22); /* TIF_32BIT */
#endif
}

static __always_inline long gadget_syscall_nr(bool trusted, struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return (long)GADGET_READ(trusted, regs, orig_ax);
#elif defined(__TARGET_ARCH_arm64)
	return GADGET_READ(trusted, regs, syscallno);
#endif
}

/* gadget_syscall_arg returns argument n of the system call, also at its exit. */
static __always_inline unsigned long gadget_syscall_arg(bool trusted, bool compat,
							struct pt_regs *regs, int n)
{
#if defined(__TARGET_ARCH_x86)
	if (compat) {
		switch (n) {
		case 0:
			return (__u32)GADGET_READ(trusted, regs, bx);
		case 1:
			return (__u32)GADGET_READ(trusted, regs, cx);
		case 2:
			return (__u32)GADGET_READ(trusted, regs, dx);
		default:
			return (__u32)GADGET_READ(trusted, regs, si);
		}
	}
	switch (n) {
	case 0:
		return GADGET_READ(trusted, regs, di);
	case 1:
		return GADGET_READ(trusted, regs, si);
	case 2:
		return GADGET_READ(trusted, regs, dx);
	default:
		return GADGET_READ(trusted, regs, r10);
	}
#elif defined(__TARGET_ARCH_arm64)
	/* The return value has taken the place of argument 0. */
	unsigned long value =
	    n == 0 ? GADGET_READ(trusted, regs, orig_x0) : GADGET_READ(trusted, regs, regs[n]);

	return compat ? (__u32)value : value;
#endif
}
