/* SPDX-License-Identifier: GPL-2.0-only */
#include "gadget.h"
#include "syscall.h"

GADGET(profile_runqlat, "show how long threads wait for a CPU, as a histogram");

#define SLOTS 27 /* the last begins at 67 seconds in us */
#define EEXIST 17
#define TASK_RTLOCK_WAIT 0x1000

/* Named as the values of the flags read. */
enum by {
	machine,
	process,
	container,
};

enum unit {
	us,
	ms,
};

struct key {
	__u64 cgroup_id GADGET_DOC("id of the cgroup, unless by machine")
	    GADGET_TYPE(cgroup) GADGET_HIDDEN;
	__u64 mntns_id GADGET_DOC("inode of the mount namespace, with --by container")
	    GADGET_TYPE(mntns) GADGET_HIDDEN;
	__u32 pid GADGET_DOC("process id, with --by process") GADGET_WIDTH(7);
	enum unit unit GADGET_DOC("unit of the slots") GADGET_WIDTH(4);
};

struct value {
	char comm[GADGET_COMM_LEN] GADGET_DOC("name of the process, with --by process")
	    GADGET_WIDTH(16);
	__u64 slots[SLOTS] GADGET_DOC("waits from 2^i to 2^(i+1)-1 long, the first also those of 0")
	    GADGET_TYPE(log2);
};

GADGET_TABLE(struct key, struct value, 10240);
GADGET_PARAM(enum by, by, machine, "one histogram for each of these");
GADGET_PARAM(enum unit, unit, us, "microseconds or milliseconds");

/*
 * Since when a thread waits. Entries are taken beforehand: programs run here with
 * the lock of a run queue held, where memory should not be asked for.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} waiting SEC(".maps");

static __always_inline bool skip(bool trusted, struct task_struct *task)
{
	char comm[GADGET_COMM_LEN] = {};
	__u64 cgroup_id = 0;
	__u32 uid = 0;

	if (param_uid >= 0)
		uid = BPF_CORE_READ(task, cred, uid.val);
	if (param_comm[0])
		BPF_CORE_READ_STR_INTO(&comm, task, comm);
	if (gadget_filter_containers)
		cgroup_id = gadget_cgroup_id(task);
	return gadget_skip_task(GADGET_READ(trusted, task, tgid), GADGET_READ(trusted, task, pid),
				uid, comm, cgroup_id);
}

/*
 * begin notes that a thread waits from now on; with BPF_NOEXIST, that it goes on
 * waiting if it does already. Idle threads, all of id 0, never wait.
 */
static __always_inline int begin(bool trusted, struct task_struct *task, __u64 flags)
{
	__u32 tid = GADGET_READ(trusted, task, pid);
	__u64 now;
	int err; /* not long: before Linux 6.4 map operations leave its upper half empty */

	if (!tid || skip(trusted, task))
		return 0;
	now = bpf_ktime_get_ns();
	err = bpf_map_update_elem(&waiting, &tid, &now, flags);
	if (err && err != -EEXIST)
		gadget_count_lost();
	return 0;
}

/*
 * is_runnable says whether the thread that gives up the CPU wants it back. One
 * that is preempted does, whatever state it was about to sleep in; but waiting
 * for a lock of a PREEMPT_RT kernel only looks like a preemption.
 */
static __always_inline bool is_runnable(bool trusted, bool preempt, struct task_struct *task)
{
	struct task_struct___before_5_14 *older = (void *)task;
	__u64 state;

	if (bpf_core_field_exists(task->__state))
		state = GADGET_READ(trusted, task, __state);
	else
		state = GADGET_READ(trusted, older, state);
	return state == TASK_RUNNING || (preempt && !(state & TASK_RTLOCK_WAIT));
}

/* log2_slot halves the interval that the highest bit may be in; the last slot has no end. */
static __always_inline __u32 log2_slot(__u64 value)
{
	__u32 slot = 0;

	for (__u32 bits = 32; bits; bits >>= 1) {
		if (value >> bits) {
			value >>= bits;
			slot += bits;
		}
	}
	return slot < SLOTS ? slot : SLOTS - 1;
}

static __always_inline struct value *entry_of(bool trusted, struct task_struct *task)
{
	struct task_struct *leader = GADGET_READ(trusted, task, group_leader);
	struct value fresh = {};
	struct value *value;
	struct key key = {};

	key.unit = param_unit;
	/* Who may see only some containers gets a row for each of them. */
	if (param_by != machine || gadget_filter_containers)
		key.cgroup_id = gadget_cgroup_id(task);
	if (param_by == process)
		key.pid = GADGET_READ(trusted, task, tgid);
	/* Not by process: a thread that ends lets go of it, and would get a second row. */
	if (param_by == container)
		key.mntns_id = gadget_mntns_id(task);
	value = gadget_table_entry(gadget_table_now(), &key, &fresh);
	if (value && param_by == process && !value->comm[0])
		BPF_CORE_READ_STR_INTO(&value->comm, leader, comm);
	return value;
}

static __always_inline void end(bool trusted, struct task_struct *task)
{
	__u32 tid = GADGET_READ(trusted, task, pid);
	__u64 *since = bpf_map_lookup_elem(&waiting, &tid);
	struct value *value;
	__u64 waited;
	__u32 slot;

	if (!since)
		return;
	waited = bpf_ktime_get_ns() - *since;
	bpf_map_delete_elem(&waiting, &tid);
	/* Clocks of two CPUs may differ by a little. */
	if ((__s64)waited < 0)
		waited = 0;
	slot = log2_slot(waited / (param_unit == ms ? 1000000 : 1000));
	value = entry_of(trusted, task);
	if (value)
		__sync_fetch_and_add(&value->slots[slot], 1);
}

static __always_inline int on_switch(bool trusted, bool preempt, struct task_struct *prev,
				     struct task_struct *next)
{
	if (is_runnable(trusted, preempt, prev)) {
		begin(trusted, prev, BPF_ANY);
	} else {
		/* It may have been woken while it still ran: that was no wait. */
		__u32 tid = GADGET_READ(trusted, prev, pid);

		bpf_map_delete_elem(&waiting, &tid);
	}
	end(trusted, next);
	return 0;
}

GADGET_HOOK(sched, 1, tp_btf)
SEC("tp_btf/sched_wakeup")
int BPF_PROG(wakeup_tp_btf, struct task_struct *task)
{
	return begin(true, task, BPF_NOEXIST);
}

GADGET_HOOK(sched, 1, tp_btf)
SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(wakeup_new_tp_btf, struct task_struct *task)
{
	return begin(true, task, BPF_ANY);
}

GADGET_HOOK(sched, 1, tp_btf)
SEC("tp_btf/sched_switch")
int BPF_PROG(switch_tp_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return on_switch(true, preempt, prev, next);
}

GADGET_HOOK(sched, 2, raw_tracepoint)
SEC("raw_tp/sched_wakeup")
int BPF_PROG(wakeup_raw_tp, struct task_struct *task)
{
	return begin(false, task, BPF_NOEXIST);
}

GADGET_HOOK(sched, 2, raw_tracepoint)
SEC("raw_tp/sched_wakeup_new")
int BPF_PROG(wakeup_new_raw_tp, struct task_struct *task)
{
	return begin(false, task, BPF_ANY);
}

GADGET_HOOK(sched, 2, raw_tracepoint)
SEC("raw_tp/sched_switch")
int BPF_PROG(switch_raw_tp, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return on_switch(false, preempt, prev, next);
}
