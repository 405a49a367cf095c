// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Every kind of CO-RE relocation, resolvable and not, for the tests. Nothing of
// it is ever run; each program ends up as a list of relocated instructions.

#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define CORE __attribute__((preserve_access_index))

typedef struct {
	int counter;
} atomic_t;

typedef int pid_t;

struct list_head {
	struct list_head *next, *prev;
} CORE;

struct kref {
	atomic_t refcount;
} CORE;

struct ns_common {
	unsigned int inum;
} CORE;

struct mnt_namespace {
	struct ns_common ns;
} CORE;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
} CORE;

struct rlimit {
	unsigned long rlim_cur, rlim_max;
} CORE;

struct signal_struct {
	struct rlimit rlim[16];
	int group_exit_code;
	unsigned int is_child_subreaper : 1;
} CORE;

struct task_struct {
	pid_t pid, tgid;
	char comm[16];
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct task_struct *real_parent;
	struct list_head tasks;
	unsigned int sched_reset_on_fork : 1;
	unsigned int in_execve : 1;
	int no_such_member;
} CORE;

struct task_struct___old {
	volatile long state;
} CORE;

struct task_struct___new {
	unsigned int __state;
} CORE;

struct task_struct___wrong {
	struct list_head pid;
	int comm;
} CORE;

struct no_such_struct {
	int a;
	struct list_head b;
} CORE;

struct inet_sock___anon {
	union {
		struct {
			__be16 inet_sport;
		};
	};
} CORE;

struct sock_common {
	unsigned short skc_family;
	unsigned char skc_reuse : 4;
	unsigned char skc_ipv6only : 1;
	union {
		struct {
			__be16 skc_dport;
			__u16 skc_num;
		};
	};
} CORE;

struct sock {
	struct sock_common __sk_common;
	unsigned short sk_type;
	unsigned short sk_protocol;
} CORE;

struct sk_buff {
	unsigned char pkt_type : 3;
	unsigned char ip_summed : 2;
	unsigned char cloned : 1;
	unsigned int len;
	unsigned char *data;
} CORE;

struct bpf_prog___flex {
	int insnsi[0];
} CORE;

struct linux_dirent___flex {
	unsigned long d_ino;
	char d_name[];
} CORE;

enum pid_type {
	PIDTYPE_PID,
	PIDTYPE_MAX,
	PIDTYPE_NONE_SUCH,
};

enum pid_type___old {
	PIDTYPE_SID___old = 3,
};

enum bpf_func_id {
	BPF_FUNC_ringbuf_output = 130,
	BPF_FUNC_no_such_helper = 9999,
};

enum no_such_enum {
	NO_SUCH_VALUE,
};

/* enum64 since 6.x; an enum before. */
enum btf_field_type {
	BPF_SPIN_LOCK = 1,
	BPF_KPTR_UNREF = 4,
};

typedef void (*bpf_func_t___none)(void);
typedef unsigned int (*bpf_func_t)(const void *, const void *);
typedef int (*wait_queue_func_t)(void *, unsigned int, int, void *);

/* Local definitions to be compared as a whole. */
struct list_head___same {
	struct list_head *next, *prev;
};

struct list_head___more {
	struct list_head *next, *prev, *third;
};

struct hlist_node {
	struct hlist_node *next, **pprev;
};

struct callback_head {
	struct callback_head *next;
	void (*func)(struct callback_head *);
};

struct path___wrong {
	struct callback_head *mnt;
};

union sigval {
	int sival_int;
	void *sival_ptr;
};

enum pid_type___match {
	PIDTYPE_PID___match,
	PIDTYPE_MAX___match,
};

struct long_chain {
	int a;
};

long sink;

SEC("raw_tp/fields") int fields(void **ctx)
{
	struct task_struct *t = (void *)bpf_get_current_task();
	struct sock *sk = ctx[0];

	sink += BPF_CORE_READ(t, real_parent, real_parent, nsproxy, mnt_ns, ns.inum);
	sink += BPF_CORE_READ(t, comm[3]);
	sink += BPF_CORE_READ(t, signal, rlim[7].rlim_max);
	sink += BPF_CORE_READ(t, tasks.next, prev, next) != 0;
	sink += BPF_CORE_READ(sk, __sk_common.skc_num);
	sink += BPF_CORE_READ(sk, sk_type);
	return 0;
}

SEC("raw_tp/questions") int questions(void **ctx)
{
	struct task_struct *t = (void *)bpf_get_current_task();
	struct inet_sock___anon *inet = ctx[1];

	if (bpf_core_field_exists(t->no_such_member))
		sink += 1;
	if (bpf_core_field_exists(t->pid))
		sink += 2;
	sink += bpf_core_field_size(t->comm);
	sink += bpf_core_field_size(t->tasks);
	sink += bpf_core_field_size(t->signal->rlim[0]);
	sink += bpf_core_field_offset(t->comm[5]);
	sink += bpf_core_field_offset(struct sock, __sk_common.skc_dport);
	if (bpf_core_field_exists(inet->inet_sport))
		sink += 4;
	return 0;
}

SEC("raw_tp/flavours") int flavours(void **ctx)
{
	struct task_struct___new *new = ctx[0];
	struct task_struct___old *old = ctx[0];

	if (bpf_core_field_exists(new->__state))
		sink += BPF_CORE_READ(new, __state);
	else
		sink += BPF_CORE_READ(old, state);
	return 0;
}

SEC("raw_tp/poisoned") int poisoned(void **ctx)
{
	struct task_struct *t = (void *)bpf_get_current_task();
	struct task_struct___wrong *wrong = ctx[0];
	struct no_such_struct *none = ctx[0];

	sink += BPF_CORE_READ(t, no_such_member);
	sink += BPF_CORE_READ(wrong, pid.next) != 0;
	sink += BPF_CORE_READ(wrong, comm);
	sink += BPF_CORE_READ(none, b.next) != 0;
	sink += bpf_core_type_size(struct no_such_struct);
	sink += bpf_core_enum_value(enum no_such_enum, NO_SUCH_VALUE);
	sink += bpf_core_enum_value(enum pid_type, PIDTYPE_NONE_SUCH);
	return 0;
}

SEC("raw_tp/bitfields") int bitfields(void **ctx)
{
	struct task_struct *t = (void *)bpf_get_current_task();
	struct sk_buff *skb = ctx[0];
	struct sock_common *common = ctx[1];
	struct signal_struct *signal = ctx[2];

	sink += BPF_CORE_READ_BITFIELD_PROBED(t, sched_reset_on_fork);
	sink += BPF_CORE_READ_BITFIELD_PROBED(t, in_execve);
	sink += BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type);
	sink += BPF_CORE_READ_BITFIELD_PROBED(skb, cloned);
	sink += BPF_CORE_READ_BITFIELD_PROBED(common, skc_reuse);
	sink += BPF_CORE_READ_BITFIELD_PROBED(common, skc_ipv6only);
	sink += BPF_CORE_READ_BITFIELD_PROBED(signal, is_child_subreaper);
	return 0;
}

SEC("raw_tp/elements") int elements(void **ctx)
{
	struct task_struct *t = ctx[0];
	struct signal_struct *signal = ctx[1];

	sink += (long)__builtin_preserve_access_index(&t[3].comm[2]);
	sink += (long)__builtin_preserve_access_index(&signal->rlim[15].rlim_cur);
	return 0;
}

SEC("raw_tp/flexible") int flexible(void **ctx)
{
	struct linux_dirent___flex *dirent = ctx[0];

	sink += (long)__builtin_preserve_access_index(&dirent->d_name[4]);
	return 0;
}

SEC("raw_tp/flexible_inside") int flexible_inside(void **ctx)
{
	struct bpf_prog___flex *prog = ctx[0];

	sink += (long)__builtin_preserve_access_index(&prog->insnsi[1]);
	return 0;
}

SEC("raw_tp/types") int types(void **ctx)
{
	sink += bpf_core_type_exists(struct task_struct);
	sink += bpf_core_type_exists(union sigval) << 1;
	sink += bpf_core_type_exists(pid_t) << 2;
	sink += bpf_core_type_exists(atomic_t) << 3;
	sink += bpf_core_type_exists(bpf_func_t) << 4;
	sink += bpf_core_type_exists(bpf_func_t___none) << 5;
	sink += bpf_core_type_exists(wait_queue_func_t) << 6;
	sink += bpf_core_type_exists(enum pid_type) << 7;
	sink += bpf_core_type_exists(struct no_such_struct) << 8;
	sink += bpf_core_type_size(struct task_struct);
	sink += bpf_core_type_size(struct rlimit);
	sink += bpf_core_type_size(pid_t);
	sink += bpf_core_type_size(atomic_t);
	return 0;
}

SEC("raw_tp/matches") int matches(void **ctx)
{
	sink += bpf_core_type_matches(struct list_head___same);
	sink += bpf_core_type_matches(struct list_head___more) << 1;
	sink += bpf_core_type_matches(struct hlist_node) << 2;
	sink += bpf_core_type_matches(struct callback_head) << 3;
	sink += bpf_core_type_matches(struct path___wrong) << 4;
	sink += bpf_core_type_matches(union sigval) << 5;
	sink += bpf_core_type_matches(enum pid_type___match) << 6;
	sink += bpf_core_type_matches(enum pid_type) << 7;
	sink += bpf_core_type_matches(struct rlimit) << 8;
	sink += bpf_core_type_matches(struct task_struct) << 9;
	sink += bpf_core_type_matches(struct long_chain) << 10;
	sink += bpf_core_type_matches(pid_t) << 11;
	sink += bpf_core_type_matches(wait_queue_func_t) << 12;
	return 0;
}

SEC("raw_tp/enums") int enums(void **ctx)
{
	sink += bpf_core_enum_value_exists(enum pid_type, PIDTYPE_MAX);
	sink += bpf_core_enum_value_exists(enum pid_type, PIDTYPE_NONE_SUCH) << 1;
	sink += bpf_core_enum_value_exists(enum pid_type___old, PIDTYPE_SID___old) << 2;
	sink += bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_no_such_helper) << 3;
	sink += bpf_core_enum_value_exists(enum no_such_enum, NO_SUCH_VALUE) << 4;
	sink += bpf_core_enum_value(enum pid_type, PIDTYPE_MAX);
	sink += bpf_core_enum_value(enum bpf_func_id, BPF_FUNC_ringbuf_output);
	if (bpf_core_enum_value_exists(enum btf_field_type, BPF_KPTR_UNREF))
		sink += bpf_core_enum_value(enum btf_field_type, BPF_KPTR_UNREF);
	return 0;
}

SEC("raw_tp/type_ids") int type_ids(void **ctx)
{
	sink += bpf_core_type_id_kernel(struct task_struct);
	sink += bpf_core_type_id_local(struct task_struct);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
