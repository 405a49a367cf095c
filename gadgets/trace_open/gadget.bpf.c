// SPDX-License-Identifier: GPL-2.0-only
#include "gadget.h"
#include "path.h"
#include "syscall.h"

GADGET(trace_open, "show files being opened: open, openat, openat2 and creat");

#define O_CREAT_FLAGS                                                                              \
	(01 | 0100 | 01000) /* O_WRONLY | O_CREAT | O_TRUNC: what creat(2) stands for */

enum name_source {
	USER_COPY = 0,
	KERNEL_COPY = 1,
};

struct event {
	GADGET_TASK_FIELDS;
	__s32 fd GADGET_DOC("file descriptor, -1 if the call failed") GADGET_WIDTH(4);
	__u32 errno GADGET_DOC("why the call failed") GADGET_TYPE(errno);
	__u32 flags GADGET_DOC("how it was to be opened") GADGET_TYPE(open_flags) GADGET_WIDTH(22);
	__u32 mode GADGET_DOC("permissions of a file to be made") GADGET_TYPE(mode) GADGET_HIDDEN;
	struct gadget_bytes path GADGET_DOC("name that was asked for") GADGET_WIDTH(40);
	struct gadget_bytes full_path GADGET_DOC("path of the opened file, with --full-path")
	    GADGET_WIDTH(40) GADGET_HIDDEN;
	enum name_source path_from GADGET_DOC(
	    "whose copy path is: the kernel's, or the caller's, which another thread can "
	    "change") GADGET_HIDDEN;
};

GADGET_EVENTS(struct event);
GADGET_PARAM(bool, failed, true, "show calls that failed");
GADGET_PARAM(bool, full_path, false, "look up the absolute path of the opened file");

struct record {
	struct event event;
	char tail[2 * PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

/* The kernel's copy of the name, kept between the look-up of the file and the end of the call. */
struct name {
	__u64 user_pointer;
	__u32 length;
	char text[PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct name);
} names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct name);
} no_name SEC(".maps");

static __always_inline int keep_name(struct filename *filename)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 zero = 0;
	struct name *name;
	long length;

	if (gadget_skip())
		return 0;
	name = bpf_map_lookup_elem(&names, &tid);
	if (!name) {
		void *empty = bpf_map_lookup_elem(&no_name, &zero);

		if (!empty)
			return 0;
		bpf_map_update_elem(&names, &tid, empty, BPF_NOEXIST);
		name = bpf_map_lookup_elem(&names, &tid);
		if (!name)
			return 0;
	}
	name->user_pointer = 0;
	if (bpf_core_field_exists(filename->uptr))
		name->user_pointer = (__u64)BPF_CORE_READ(filename, uptr);
	length = bpf_probe_read_kernel_str(name->text, sizeof(name->text),
					   BPF_CORE_READ(filename, name));
	name->length = length > 0 ? length : 0;
	return 0;
}

/* Linux 7.0 renamed do_filp_open to do_file_open: of each pair one can be attached. */
GADGET_HOOK(name, 1, fentry)
GADGET_OPTIONAL
SEC("fentry/do_filp_open")
int BPF_PROG(name_fentry, int dfd, struct filename *filename)
{
	return keep_name(filename);
}

GADGET_HOOK(name, 1, fentry)
GADGET_OPTIONAL
SEC("fentry/do_file_open")
int BPF_PROG(name_fentry_7, int dfd, struct filename *filename)
{
	return keep_name(filename);
}

GADGET_HOOK(name, 2, kprobe)
GADGET_OPTIONAL
SEC("kprobe/do_filp_open")
int BPF_KPROBE(name_kprobe, int dfd, struct filename *filename)
{
	return keep_name(filename);
}

GADGET_HOOK(name, 2, kprobe)
GADGET_OPTIONAL
SEC("kprobe/do_file_open")
int BPF_KPROBE(name_kprobe_7, int dfd, struct filename *filename)
{
	return keep_name(filename);
}

/* copy_name writes the name to text and returns its length without the zero. */
static __always_inline __u32 copy_name(struct event *event, char *text, unsigned long user_pointer)
{
	__u32 tid = event->tid;
	struct name *name = bpf_map_lookup_elem(&names, &tid);
	long length;

	if (name && name->length && (!name->user_pointer || name->user_pointer == user_pointer)) {
		event->path_from = KERNEL_COPY;
		length = bpf_probe_read_kernel_str(text, PATH_MAX, name->text);
		name->length = 0;
	} else {
		length = bpf_probe_read_user_str(text, PATH_MAX, (void *)user_pointer);
	}
	return length > 0 ? length - 1 : 0;
}

static __always_inline __u32 copy_full_path(char *text, int fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct file **table = BPF_CORE_READ(task, files, fdt, fd);
	struct file *file = NULL;

	bpf_probe_read_kernel(&file, sizeof(file), &table[fd]);
	return gadget_file_path(file, text);
}

struct open_how_user {
	__u64 flags;
	__u64 mode;
};

static __always_inline int on_exit(void *ctx, bool trusted, struct pt_regs *regs, long ret)
{
	long nr = gadget_syscall_nr(trusted, regs);
	unsigned long name_arg, flags, mode;
	struct open_how_user how = {};
	struct record *record;
	struct event *event;
	__u32 zero = 0;
	__u32 used;
	bool compat;

	/* Nearly every call ends here: keep the common path to one comparison a number. */
	if (nr != NR_OPENAT && nr != NR_OPEN && nr != NR_CREAT && nr != NR_OPENAT2 &&
	    nr != NR_COMPAT_OPEN && nr != NR_COMPAT_CREAT && nr != NR_COMPAT_OPENAT)
		return 0;
	compat = gadget_is_compat();
	bool openat = nr == (compat ? NR_COMPAT_OPENAT : NR_OPENAT);
	bool openat2 = nr == (compat ? NR_COMPAT_OPENAT2 : NR_OPENAT2);
	bool open = nr == (compat ? NR_COMPAT_OPEN : NR_OPEN);
	bool creat = nr == (compat ? NR_COMPAT_CREAT : NR_CREAT);

	if (!openat && !openat2 && !open && !creat)
		return 0;
	if (!param_failed && ret < 0)
		return 0;
	if (gadget_skip())
		return 0;
	record = bpf_map_lookup_elem(&scratch, &zero);
	if (!record)
		return 0;
	if (openat2) {
		name_arg = gadget_syscall_arg(trusted, compat, regs, 1);
		bpf_probe_read_user(&how, sizeof(how),
				    (void *)gadget_syscall_arg(trusted, compat, regs, 2));
		flags = how.flags;
		mode = how.mode;
	} else if (openat) {
		name_arg = gadget_syscall_arg(trusted, compat, regs, 1);
		flags = gadget_syscall_arg(trusted, compat, regs, 2);
		mode = gadget_syscall_arg(trusted, compat, regs, 3);
	} else {
		name_arg = gadget_syscall_arg(trusted, compat, regs, 0);
		mode = gadget_syscall_arg(trusted, compat, regs, creat ? 1 : 2);
		flags = creat ? O_CREAT_FLAGS : gadget_syscall_arg(trusted, compat, regs, 1);
	}

	event = &record->event;
	__builtin_memset(event, 0, sizeof(*event));
	gadget_fill_task(event);
	event->fd = ret < 0 ? -1 : ret;
	event->errno = ret < 0 ? -ret : 0;
	event->flags = flags;
	/* Without O_CREAT or O_TMPFILE the argument is whatever the register held. */
	event->mode = flags & (0100 | 020000000) ? mode & 07777 : 0;
	used = copy_name(event, record->tail, name_arg) & (PATH_MAX - 1);
	event->path.offset = offsetof(struct record, tail);
	event->path.length = used;
	event->full_path.offset = offsetof(struct record, tail) + used;
	if (param_full_path && ret >= 0) {
		__u32 length = copy_full_path(&record->tail[used], ret) & (PATH_MAX - 1);

		event->full_path.length = length;
		used += length;
	}
	gadget_emit(ctx, record, sizeof(*event) + used);
	return 0;
}

GADGET_HOOK(exit, 1, tp_btf)
SEC("tp_btf/sys_exit")
int BPF_PROG(exit_tp_btf, struct pt_regs *regs, long ret)
{
	return on_exit(ctx, true, regs, ret);
}

GADGET_HOOK(exit, 2, raw_tracepoint)
SEC("raw_tp/sys_exit")
int BPF_PROG(exit_raw_tp, struct pt_regs *regs, long ret)
{
	return on_exit(ctx, false, regs, ret);
}
