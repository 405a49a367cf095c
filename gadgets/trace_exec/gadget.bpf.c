// SPDX-License-Identifier: GPL-2.0-only
#include "gadget.h"
#include "path.h"
#include "syscall.h"

GADGET(trace_exec, "show programs being executed, with their arguments");

/* Both are powers of two, so that a mask bounds a length for the verifier. */
#define ARGS_MAX 16384
#define ARG_MAX 1024
#define ARGV_MAX 64

struct event {
	GADGET_TASK_FIELDS;
	__u32 ppid GADGET_DOC("parent's process id") GADGET_WIDTH(7);
	char parent_comm[GADGET_COMM_LEN] GADGET_DOC("name of the parent")
	    GADGET_WIDTH(16) GADGET_HIDDEN;
	__s32 ret GADGET_DOC("what the call returned: 0, or a negative error number")
	    GADGET_WIDTH(4);
	__u32 errno GADGET_DOC("why the call failed") GADGET_TYPE(errno) GADGET_HIDDEN;
	__u32
	    args_count GADGET_DOC("number of arguments, the program's name included") GADGET_HIDDEN;
	__u32 args_size GADGET_DOC("bytes of all arguments, also of those left out") GADGET_HIDDEN;
	bool args_truncated GADGET_DOC("whether arguments were left out or cut") GADGET_HIDDEN;
	struct gadget_bytes args GADGET_DOC("arguments, the program's name first") GADGET_TYPE(args)
	    GADGET_WIDTH(40);
	struct gadget_bytes file GADGET_DOC("file that the caller asked to execute")
	    GADGET_WIDTH(30) GADGET_HIDDEN;
	struct gadget_bytes exe GADGET_DOC("path of the executed file; empty if the call failed")
	    GADGET_WIDTH(30) GADGET_HIDDEN;
	struct gadget_bytes cwd GADGET_DOC("working directory, with --cwd")
	    GADGET_WIDTH(20) GADGET_HIDDEN;
};

GADGET_EVENTS(struct event);
GADGET_PARAM(bool, failed, false, "show failed executions too");
GADGET_PARAM(bool, cwd, false, "look up the working directory");
GADGET_PARAM_RANGE(__u32, args_limit, 16383, 0, 16383, "most bytes of arguments that are kept");

struct record {
	struct event event;
	char tail[ARGS_MAX + ARG_MAX + 3 * PATH_MAX];
};

/* One record for each program: they may run one after the other on a CPU, never share. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

enum { SCRATCH_EXEC, SCRATCH_FAILED };

static __always_inline struct record *new_record(__u32 slot)
{
	struct record *record = bpf_map_lookup_elem(&scratch, &slot);
	struct task_struct *task = (void *)bpf_get_current_task();
	struct event *event;

	if (!record)
		return NULL;
	event = &record->event;
	__builtin_memset(event, 0, sizeof(*event));
	gadget_fill_task(event);
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	BPF_CORE_READ_STR_INTO(&event->parent_comm, task, real_parent, comm);
	return record;
}

/* refer points to length bytes that were written at used bytes into the tail. */
static __always_inline __u32 refer(struct gadget_bytes *bytes, __u32 used, __u32 length)
{
	bytes->offset = offsetof(struct record, tail) + used;
	bytes->length = length;
	return used + length;
}

/*
 * copy_args copies the arguments from the stack of the new program. The kernel
 * has just put them there, and no thread runs yet that could change them.
 */
static __always_inline __u32 copy_args(struct record *record, struct task_struct *task,
				       struct linux_binprm *bprm)
{
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	__u64 size = BPF_CORE_READ(task, mm, arg_end) - start;
	__u32 length = size > param_args_limit ? param_args_limit : size;
	struct event *event = &record->event;

	event->args_count = BPF_CORE_READ(bprm, argc);
	event->args_size = size;
	length &= ARGS_MAX - 1;
	if (bpf_probe_read_user(record->tail, length, (void *)start))
		length = 0;
	event->args_truncated = length < size;
	return refer(&event->args, 0, length);
}

static __always_inline __u32 copy_cwd(struct record *record, __u32 used)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 length;

	length = gadget_path(BPF_CORE_READ(task, fs, pwd.mnt), BPF_CORE_READ(task, fs, pwd.dentry),
			     &record->tail[used]);
	return refer(&record->event.cwd, used, length & (PATH_MAX - 1));
}

static __always_inline int on_exec(void *ctx, struct linux_binprm *bprm)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct record *record;
	__u32 used, length;
	long copied;

	if (gadget_skip())
		return 0;
	record = new_record(SCRATCH_EXEC);
	if (!record)
		return 0;
	used = copy_args(record, task, bprm);
	copied =
	    bpf_probe_read_kernel_str(&record->tail[used], PATH_MAX, BPF_CORE_READ(bprm, filename));
	length = (copied > 0 ? copied - 1 : 0) & (PATH_MAX - 1);
	used = refer(&record->event.file, used, length);
	length = gadget_file_path(BPF_CORE_READ(task, mm, exe_file), &record->tail[used]);
	used = refer(&record->event.exe, used, length & (PATH_MAX - 1));
	if (param_cwd)
		used = copy_cwd(record, used);
	gadget_emit(ctx, record, sizeof(record->event) + used);
	return 0;
}

GADGET_HOOK(exec, 1, tp_btf)
SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec_tp_btf, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	return on_exec(ctx, bprm);
}

GADGET_HOOK(exec, 2, raw_tracepoint)
SEC("raw_tp/sched_process_exec")
int BPF_PROG(exec_raw_tp, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	return on_exec(ctx, bprm);
}

/* copy_arg appends argument i, and says whether there may be another one. */
static __always_inline bool copy_arg(struct record *record, bool compat, unsigned long argv, int i)
{
	struct event *event = &record->event;
	/* Read from the map in each round: see struct gadget_path_buffer for why. */
	__u32 used = *(volatile __u32 *)&event->args_size;
	__u32 width = compat ? 4 : 8;
	unsigned long arg = 0;
	long copied;

	if (bpf_probe_read_user(&arg, width, (void *)(argv + i * width)) || !arg)
		return false;
	if (i == ARGV_MAX || used >= param_args_limit) {
		event->args_truncated = true;
		return false;
	}
	event->args_count++;
	copied =
	    bpf_probe_read_user_str(&record->tail[used & (ARGS_MAX - 1)], ARG_MAX, (void *)arg);
	if (copied <= 0)
		return false;
	if (copied == ARG_MAX)
		event->args_truncated = true;
	event->args_size = used + copied;
	return true;
}

/* copy_argv copies the arguments of a failed call, which only the caller's memory still has. */
static __always_inline __u32 copy_argv(struct record *record, bool compat, unsigned long argv)
{
	struct event *event = &record->event;
	__u32 used;

	for (int i = 0; i <= ARGV_MAX; i++) {
		if (!copy_arg(record, compat, argv, i))
			break;
	}
	used = event->args_size;
	if (used > param_args_limit) {
		event->args_truncated = true;
		used = param_args_limit;
	}
	return refer(&event->args, 0, used & (ARGS_MAX - 1));
}

static __always_inline int on_exit(void *ctx, bool trusted, struct pt_regs *regs, long ret)
{
	unsigned long file, argv;
	struct record *record;
	bool compat, execve;
	__u32 used, length;
	long copied, nr;

	if (ret >= 0)
		return 0;
	nr = gadget_syscall_nr(trusted, regs);
	if (nr != NR_EXECVE && nr != NR_EXECVEAT && nr != NR_COMPAT_EXECVE &&
	    nr != NR_COMPAT_EXECVEAT)
		return 0;
	compat = gadget_is_compat();
	execve = nr == (compat ? NR_COMPAT_EXECVE : NR_EXECVE);
	if (!execve && nr != (compat ? NR_COMPAT_EXECVEAT : NR_EXECVEAT))
		return 0;
	if (gadget_skip())
		return 0;
	record = new_record(SCRATCH_FAILED);
	if (!record)
		return 0;
	file = gadget_syscall_arg(trusted, compat, regs, execve ? 0 : 1);
	argv = gadget_syscall_arg(trusted, compat, regs, execve ? 1 : 2);
	record->event.ret = ret;
	record->event.errno = -ret;
	used = copy_argv(record, compat, argv);
	copied = bpf_probe_read_user_str(&record->tail[used], PATH_MAX, (void *)file);
	length = (copied > 0 ? copied - 1 : 0) & (PATH_MAX - 1);
	used = refer(&record->event.file, used, length);
	if (param_cwd)
		used = copy_cwd(record, used);
	gadget_emit(ctx, record, sizeof(record->event) + used);
	return 0;
}

GADGET_HOOK(failed, 1, tp_btf)
GADGET_WHEN(failed)
SEC("tp_btf/sys_exit")
int BPF_PROG(failed_tp_btf, struct pt_regs *regs, long ret)
{
	return on_exit(ctx, true, regs, ret);
}

GADGET_HOOK(failed, 2, raw_tracepoint)
GADGET_WHEN(failed)
SEC("raw_tp/sys_exit")
int BPF_PROG(failed_raw_tp, struct pt_regs *regs, long ret)
{
	return on_exit(ctx, false, regs, ret);
}
