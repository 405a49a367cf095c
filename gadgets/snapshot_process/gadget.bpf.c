/* SPDX-License-Identifier: GPL-2.0-only */
#include "gadget.h"

GADGET(snapshot_process, "show the processes that there are");

/* What a thread does: TASK_* and EXIT_* of the kernel, as far as they concern a reader. */
#define TASK_INTERRUPTIBLE 0x01
#define TASK_UNINTERRUPTIBLE 0x02
#define TASK_STOPPED 0x04
#define TASK_TRACED 0x08
#define EXIT_DEAD 0x10
#define EXIT_ZOMBIE 0x20
#define TASK_PARKED 0x40
#define TASK_NOLOAD 0x400
#define TASK_RTLOCK_WAIT 0x1000
#define TASK_FROZEN 0x8000

enum state {
	RUNNING,
	SLEEPING,
	BLOCKED,
	IDLE,
	STOPPED,
	TRACED,
	PARKED,
	ZOMBIE,
	DEAD,
};

struct process {
	__u32 pid GADGET_DOC("process id") GADGET_WIDTH(7);
	__u32 tid GADGET_DOC("thread id") GADGET_WIDTH(7) GADGET_HIDDEN;
	__u32 ppid GADGET_DOC("parent's process id") GADGET_WIDTH(7);
	__u32 uid GADGET_DOC("user id") GADGET_WIDTH(6);
	__u32 gid GADGET_DOC("group id") GADGET_WIDTH(6) GADGET_HIDDEN;
	enum state state GADGET_DOC("what it does; BLOCKED can't be interrupted by signals")
	    GADGET_WIDTH(8);
	char comm[GADGET_COMM_LEN] GADGET_DOC("name of the thread") GADGET_WIDTH(16);
	char parent_comm[GADGET_COMM_LEN] GADGET_DOC("name of the parent")
	    GADGET_WIDTH(16) GADGET_HIDDEN;
	__u64 started GADGET_DOC("when it was started") GADGET_TYPE(timestamp);
	__u64 cgroup_id GADGET_DOC("id of the cgroup of the process")
	    GADGET_TYPE(cgroup) GADGET_HIDDEN;
	__u64 mntns_id GADGET_DOC("inode of the mount namespace of the process")
	    GADGET_TYPE(mntns) GADGET_HIDDEN;
};

GADGET_SNAPSHOT(struct process);
GADGET_PARAM(bool, threads, false, "show each thread, not only each process");

static __always_inline enum state state_of(struct task_struct *task)
{
	struct task_struct___before_5_14 *older = (void *)task;
	__u64 state = BPF_CORE_READ(task, exit_state);

	if (state & EXIT_ZOMBIE)
		return ZOMBIE;
	if (state & EXIT_DEAD)
		return DEAD;
	if (bpf_core_field_exists(task->__state))
		state = BPF_CORE_READ(task, __state);
	else
		state = BPF_CORE_READ(older, state);
	if (state & TASK_STOPPED)
		return STOPPED;
	if (state & TASK_TRACED)
		return TRACED;
	if (state & TASK_PARKED)
		return PARKED;
	if (state & TASK_INTERRUPTIBLE)
		return SLEEPING;
	if (state & TASK_UNINTERRUPTIBLE)
		return state & TASK_NOLOAD ? IDLE : BLOCKED;
	return state & (TASK_RTLOCK_WAIT | TASK_FROZEN) ? BLOCKED : RUNNING;
}

GADGET_HOOK(iter, 1, iter)
SEC("iter/task")
int tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct process process;

	/* The last call, after all tasks, has none. */
	if (!task)
		return 0;
	__builtin_memset(&process, 0, sizeof(process));
	process.pid = BPF_CORE_READ(task, tgid);
	process.tid = BPF_CORE_READ(task, pid);
	if (!param_threads && !param_tid && process.tid != process.pid)
		return 0;
	process.uid = BPF_CORE_READ(task, cred, uid.val);
	process.cgroup_id = gadget_cgroup_id(task);
	BPF_CORE_READ_STR_INTO(&process.comm, task, comm);
	if (gadget_skip_task(process.pid, process.tid, process.uid, process.comm,
			     process.cgroup_id))
		return 0;
	process.gid = BPF_CORE_READ(task, cred, gid.val);
	process.ppid = BPF_CORE_READ(task, real_parent, tgid);
	process.state = state_of(task);
	BPF_CORE_READ_STR_INTO(&process.parent_comm, task, real_parent, comm);
	process.started = BPF_CORE_READ(task, start_boottime);
	process.mntns_id = gadget_mntns_id(task);
	/* If the reader's buffer is full, the kernel starts anew with this task. */
	bpf_seq_write(ctx->meta->seq, &process, sizeof(process));
	return 0;
}
