// SPDX-License-Identifier: GPL-2.0-only
/*
 * witness.bpf.c: reads facts about the thread that asks, by the offsets of the
 * BTF that it was relocated against. pkg/btf/witness compares them with what is true.
 *
 * Every fact is read only if the BTF has each member on the way, so that it also
 * loads with BTF that was cut down to a few types. Nothing is dereferenced: a
 * wrong offset gives a wrong value, never a fault.
 */
#include "kernel.h"

/* Members that gadgets don't use, in flavours of types that kernel.h declares. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct new_utsname {
	char release[65];
};

struct uts_namespace {
	struct new_utsname name;
};

struct net {
	struct ns_common ns;
};

struct nsproxy___witness {
	struct uts_namespace *uts_ns;
	struct net *net_ns;
};

struct inode___witness {
	unsigned long i_ino;
};

/* Before Linux 5.5 start_boottime was called real_start_time. */
struct task_struct___before_5_5 {
	__u64 real_start_time;
};

/* Before Linux 5.5 the id was a union of number and generation. */
union kernfs_node_id {
	__u64 id;
};

struct kernfs_node___before_5_5 {
	union kernfs_node_id id;
};

#pragma clang attribute pop

/* As in facts.go, in this order. */
enum fact {
	PID,
	TGID,
	COMM,
	PARENT,
	UID,
	MNTNS,
	NETNS,
	RELEASE,
	CGROUP,
	START,
	ARGS,
	FILE_INODE,
	FILE_NAME,
	SOCKET_FAMILY,
	SOCKET_PORT,
};

/* As in report.go. */
struct report {
	/* Told by user space: what the thread's system call has for an argument, and two open files. */
	__u64 cookie;
	__u64 file;
	__u64 socket;
	/* What the program found. Facts that are texts stand below. */
	__u64 done;
	__u64 present;
	__u64 fact[16];
	__u64 pid_tgid;
	__u64 uid_gid;
	__u64 cgroup;
	char comm[16];
	char current_comm[16];
	char release[72];
	char name[40];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct report);
} witness SEC(".maps");

char witness_license[] SEC("license") = "GPL";

/* The call that the checking thread makes, and where its first argument lies. Both are ABI. */
#if defined(__TARGET_ARCH_x86)
#define NR_GETPPID 110
#define FIRST_ARGUMENT 112 /* pt_regs.di */
#elif defined(__TARGET_ARCH_arm64)
#define NR_GETPPID 173
#define FIRST_ARGUMENT 0 /* pt_regs.regs[0] */
#endif

#define HAS(type, member) bpf_core_field_exists(((type *)0)->member)

static __always_inline void state(struct report *r, enum fact fact, __u64 value)
{
	r->fact[fact] = value;
	r->present |= 1ULL << fact;
}

static __always_inline void about_task(struct report *r, struct task_struct *task)
{
	struct task_struct___before_5_5 *old = (void *)task;

	if (HAS(struct task_struct, pid))
		state(r, PID, BPF_CORE_READ(task, pid));
	if (HAS(struct task_struct, tgid))
		state(r, TGID, BPF_CORE_READ(task, tgid));
	if (HAS(struct task_struct, comm)) {
		BPF_CORE_READ_INTO(&r->comm, task, comm);
		r->present |= 1 << COMM;
	}
	if (HAS(struct task_struct, real_parent) && HAS(struct task_struct, tgid))
		state(r, PARENT, BPF_CORE_READ(task, real_parent, tgid));
	if (HAS(struct task_struct, cred) && HAS(struct cred, uid.val))
		state(r, UID, BPF_CORE_READ(task, cred, uid.val));
	if (HAS(struct task_struct, start_boottime))
		state(r, START, BPF_CORE_READ(task, start_boottime));
	else if (HAS(struct task_struct___before_5_5, real_start_time))
		state(r, START, BPF_CORE_READ(old, real_start_time));
	if (HAS(struct task_struct, mm) && HAS(struct mm_struct, arg_start))
		state(r, ARGS, BPF_CORE_READ(task, mm, arg_start));
}

static __always_inline void about_namespaces(struct report *r, struct task_struct *task)
{
	struct nsproxy___witness *proxy;

	if (!HAS(struct task_struct, nsproxy))
		return;
	proxy = (void *)BPF_CORE_READ(task, nsproxy);
	if (HAS(struct nsproxy, mnt_ns) && HAS(struct mnt_namespace, ns.inum))
		state(r, MNTNS, BPF_CORE_READ((struct nsproxy *)proxy, mnt_ns, ns.inum));
	if (HAS(struct nsproxy___witness, net_ns) && HAS(struct net, ns.inum))
		state(r, NETNS, BPF_CORE_READ(proxy, net_ns, ns.inum));
	if (HAS(struct nsproxy___witness, uts_ns) && HAS(struct uts_namespace, name.release)) {
		BPF_CORE_READ_INTO(&r->release, proxy, uts_ns, name.release);
		r->present |= 1 << RELEASE;
	}
}

static __always_inline void about_cgroup(struct report *r, struct task_struct *task)
{
	struct kernfs_node *node;

	if (!HAS(struct task_struct, cgroups) || !HAS(struct css_set, dfl_cgrp) ||
	    !HAS(struct cgroup, kn))
		return;
	node = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	if (HAS(struct kernfs_node, id))
		state(r, CGROUP, BPF_CORE_READ(node, id));
	else if (HAS(struct kernfs_node___before_5_5, id.id))
		state(r, CGROUP, BPF_CORE_READ((struct kernfs_node___before_5_5 *)node, id.id));
}

/* The element of the table of open files, which is an array of pointers on every kernel. */
static __always_inline struct file *open_file(struct file **table, __u64 number)
{
	struct file *file = NULL;

	bpf_probe_read_kernel(&file, sizeof(file), &table[number]);
	return file;
}

static __always_inline void about_file(struct report *r, struct file *file)
{
	struct dentry *dentry;

	if (HAS(struct file, f_inode) && HAS(struct inode___witness, i_ino)) {
		struct inode___witness *inode = (void *)BPF_CORE_READ(file, f_inode);

		state(r, FILE_INODE, BPF_CORE_READ(inode, i_ino));
	}
	if (HAS(struct file, f_path.dentry) && HAS(struct dentry, d_name.name)) {
		dentry = BPF_CORE_READ(file, f_path.dentry);
		bpf_probe_read_kernel_str(r->name, sizeof(r->name),
					  BPF_CORE_READ(dentry, d_name.name));
		r->present |= 1 << FILE_NAME;
	}
}

static __always_inline void about_socket(struct report *r, struct file *file)
{
	struct socket *socket;

	if (!HAS(struct file, private_data) || !HAS(struct socket, sk))
		return;
	socket = BPF_CORE_READ(file, private_data);
	if (HAS(struct sock, __sk_common.skc_family))
		state(r, SOCKET_FAMILY, BPF_CORE_READ(socket, sk, __sk_common.skc_family));
	if (HAS(struct sock, __sk_common.skc_num))
		state(r, SOCKET_PORT, BPF_CORE_READ(socket, sk, __sk_common.skc_num));
}

SEC("raw_tracepoint/sys_enter")
int testify(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task;
	struct report *r;
	struct file **table;
	__u64 argument = 0;
	__u32 zero = 0;

	if (ctx->args[1] != NR_GETPPID)
		return 0;
	r = bpf_map_lookup_elem(&witness, &zero);
	if (!r)
		return 0;
	bpf_probe_read_kernel(&argument, sizeof(argument), (void *)ctx->args[0] + FIRST_ARGUMENT);
	/* Only the checking thread knows the cookie. */
	if (argument != r->cookie)
		return 0;
	task = (void *)bpf_get_current_task();
	r->present = 0;
	r->pid_tgid = bpf_get_current_pid_tgid();
	r->uid_gid = bpf_get_current_uid_gid();
	r->cgroup = bpf_get_current_cgroup_id();
	bpf_get_current_comm(r->current_comm, sizeof(r->current_comm));
	about_task(r, task);
	about_namespaces(r, task);
	about_cgroup(r, task);
	if (HAS(struct task_struct, files) && HAS(struct files_struct, fdt) &&
	    HAS(struct fdtable, fd)) {
		table = BPF_CORE_READ(task, files, fdt, fd);
		about_file(r, open_file(table, r->file));
		about_socket(r, open_file(table, r->socket));
	}
	r->done = 1;
	return 0;
}
