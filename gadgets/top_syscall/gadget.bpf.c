/* SPDX-License-Identifier: GPL-2.0-only */
#include "gadget.h"
#include "syscall.h"

GADGET(top_syscall, "count system calls, their errors and their time, by process and call");

#define MAX_ERRNO 4095
/* 32-bit system calls have a table of their own; these numbers have no name in the native one. */
#define COMPAT_BASE 10000

struct key {
	__u32 pid GADGET_DOC("process id") GADGET_WIDTH(7);
	__u32 syscall GADGET_DOC("system call (10000 + n: number n of the 32-bit table)")
	    GADGET_TYPE(syscall);
};

struct value {
	__u64 cgroup_id GADGET_DOC("id of the cgroup of the process")
	    GADGET_TYPE(cgroup) GADGET_HIDDEN;
	__u64 mntns_id GADGET_DOC("inode of the mount namespace of the process")
	    GADGET_TYPE(mntns) GADGET_HIDDEN;
	char comm[GADGET_COMM_LEN] GADGET_DOC("name of the process") GADGET_WIDTH(16);
	__u64 count GADGET_DOC("calls that ended") GADGET_WIDTH(10);
	__u64 errors GADGET_DOC("calls that failed") GADGET_WIDTH(10);
	__u64 time GADGET_DOC("time spent in all of them, waiting included") GADGET_TYPE(duration)
	    GADGET_WIDTH(10);
	__u64 max GADGET_DOC("time of the longest") GADGET_TYPE(duration) GADGET_WIDTH(10);
};

GADGET_TABLE(struct key, struct value, 10240);

/* The call that a thread is in. */
struct call {
	__u64 since;
	__u32 syscall;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct call);
} calls SEC(".maps");

static __always_inline struct value *new_entry(void *table, struct key *key)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct value fresh = {};

	fresh.cgroup_id = gadget_current_cgroup_id();
	fresh.mntns_id = gadget_mntns_id(task);
	BPF_CORE_READ_STR_INTO(&fresh.comm, task, group_leader, comm);
	return gadget_table_entry(table, key, &fresh);
}

static __always_inline void count(__u32 syscall, __u64 time, bool failed)
{
	struct key key = {.pid = bpf_get_current_pid_tgid() >> 32, .syscall = syscall};
	void *table = gadget_table_now();
	struct value *value;

	if (!table)
		return;
	value = bpf_map_lookup_elem(table, &key);
	if (!value)
		value = new_entry(table, &key);
	if (!value)
		return;
	__sync_fetch_and_add(&value->count, 1);
	/* To add a constant 0 clang would write an atomic OR, which is in Linux 5.12 only. */
	if (time)
		__sync_fetch_and_add(&value->time, time);
	if (failed)
		__sync_fetch_and_add(&value->errors, 1);
	/* Of two threads that set a record at once, the faster call may win. */
	if (time > value->max)
		value->max = time;
}

static __always_inline int on_enter(long nr)
{
	bool compat = gadget_is_compat();
	struct call call = {};
	__u32 tid;

	if (nr < 0 || gadget_skip())
		return 0;
	call.syscall = compat ? COMPAT_BASE + nr : nr;
	/* The calls that never come back. */
	if (nr == (compat ? NR_COMPAT_EXIT : NR_EXIT) ||
	    nr == (compat ? NR_COMPAT_EXIT_GROUP : NR_EXIT_GROUP)) {
		count(call.syscall, 0, false);
		return 0;
	}
	tid = bpf_get_current_pid_tgid();
	call.since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&calls, &tid, &call, BPF_ANY))
		gadget_count_lost();
	return 0;
}

/*
 * on_exit counts only calls whose beginning was seen. The number is taken from
 * there too: rt_sigreturn ends with the registers of what it returns to, and a
 * new process begins with the end of a call that it never made.
 */
static __always_inline int on_exit(long ret)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct call *seen = bpf_map_lookup_elem(&calls, &tid);
	struct call call;

	if (!seen)
		return 0;
	call = *seen;
	bpf_map_delete_elem(&calls, &tid);
	count(call.syscall, bpf_ktime_get_ns() - call.since, ret < 0 && ret >= -MAX_ERRNO);
	return 0;
}

GADGET_HOOK(syscall, 1, tp_btf)
SEC("tp_btf/sys_enter")
int BPF_PROG(enter_tp_btf, struct pt_regs *regs, long nr)
{
	return on_enter(nr);
}

GADGET_HOOK(syscall, 1, tp_btf)
SEC("tp_btf/sys_exit")
int BPF_PROG(exit_tp_btf, struct pt_regs *regs, long ret)
{
	return on_exit(ret);
}

GADGET_HOOK(syscall, 2, raw_tracepoint)
SEC("raw_tp/sys_enter")
int BPF_PROG(enter_raw_tp, struct pt_regs *regs, long nr)
{
	return on_enter(nr);
}

GADGET_HOOK(syscall, 2, raw_tracepoint)
SEC("raw_tp/sys_exit")
int BPF_PROG(exit_raw_tp, struct pt_regs *regs, long ret)
{
	return on_exit(ret);
}
