/* SPDX-License-Identifier: GPL-2.0-only */
#include "gadget.h"

GADGET(trace_signal, "show signals being sent, with sender and receiver");

#define SI_USER 0
#define SI_KERNEL 0x80

/* What stands in place of a siginfo when the sender gave none: the kernel's SEND_SIG_*. */
#define SEND_SIG_NOINFO ((struct kernel_siginfo *)0)
#define SEND_SIG_PRIV ((struct kernel_siginfo *)1)

/* The tracepoint's TRACE_SIGNAL_*. */
enum result {
	DELIVERED = 0,
	IGNORED = 1,
	ALREADY_PENDING = 2,
	OVERFLOW_FAIL = 3,
	LOSE_INFO = 4,
};

struct target {
	__u32 pid GADGET_DOC("process id of the receiver") GADGET_WIDTH(10);
	__u32 tid GADGET_DOC("thread id of the receiver") GADGET_WIDTH(10) GADGET_HIDDEN;
	__u64 cgroup_id GADGET_DOC("id of the cgroup of the receiver")
	    GADGET_TYPE(cgroup) GADGET_HIDDEN;
	__u64 mntns_id GADGET_DOC("inode of the receiver's mount namespace")
	    GADGET_TYPE(mntns) GADGET_HIDDEN;
	char comm[GADGET_COMM_LEN] GADGET_DOC("name of the receiving thread") GADGET_WIDTH(16);
};

struct event {
	GADGET_TASK_FIELDS;
	__u32 signal GADGET_DOC("signal") GADGET_TYPE(signal);
	__s32 code GADGET_DOC("si_code: where the signal comes from (0: kill, 128: the kernel)")
	    GADGET_WIDTH(4);
	enum result result GADGET_DOC("what became of it when it was sent") GADGET_WIDTH(15);
	bool group GADGET_DOC("whether it is for the whole process, not for one thread")
	    GADGET_HIDDEN;
	struct target target;
};

GADGET_EVENTS(struct event);
GADGET_PARAM_RANGE(__u32, signal, 0, 0, 64, "only this signal number (0: all)");
GADGET_PARAM(__u32, target_pid, 0, "only signals to this process id (0: all)");
GADGET_PARAM(bool, failed, true, "show signals that were not queued too");

static __always_inline void fill_target(struct target *target, struct task_struct *task)
{
	target->pid = BPF_CORE_READ(task, tgid);
	target->tid = BPF_CORE_READ(task, pid);
	target->cgroup_id = gadget_cgroup_id(task);
	target->mntns_id = gadget_mntns_id(task);
	BPF_CORE_READ_STR_INTO(&target->comm, task, comm);
}

static __always_inline __s32 code_of(struct kernel_siginfo *info)
{
	if (info == SEND_SIG_NOINFO)
		return SI_USER;
	if (info == SEND_SIG_PRIV)
		return SI_KERNEL;
	return BPF_CORE_READ(info, si_code);
}

static __always_inline int on_signal(void *ctx, int signal, struct kernel_siginfo *info,
				     struct task_struct *task, int group, int result)
{
	struct event event;

	if (param_signal && param_signal != signal)
		return 0;
	if (param_target_pid && param_target_pid != BPF_CORE_READ(task, tgid))
		return 0;
	/* LOSE_INFO is queued, only without its siginfo. */
	if (!param_failed && result != DELIVERED && result != LOSE_INFO)
		return 0;
	if (gadget_skip())
		return 0;
	__builtin_memset(&event, 0, sizeof(event));
	gadget_fill_task(&event);
	event.signal = signal;
	event.code = code_of(info);
	event.result = result;
	event.group = group;
	fill_target(&event.target, task);
	gadget_emit(ctx, &event, sizeof(event));
	return 0;
}

GADGET_HOOK(signal, 1, tp_btf)
SEC("tp_btf/signal_generate")
int BPF_PROG(signal_tp_btf, int signal, struct kernel_siginfo *info, struct task_struct *task,
	     int group, int result)
{
	return on_signal(ctx, signal, info, task, group, result);
}

GADGET_HOOK(signal, 2, raw_tracepoint)
SEC("raw_tp/signal_generate")
int BPF_PROG(signal_raw_tp, int signal, struct kernel_siginfo *info, struct task_struct *task,
	     int group, int result)
{
	return on_signal(ctx, signal, info, task, group, result);
}
