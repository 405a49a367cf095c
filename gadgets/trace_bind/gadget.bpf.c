/* SPDX-License-Identifier: GPL-2.0-only */
#include "gadget.h"
#include "syscall.h"

#include <bpf/bpf_endian.h>

GADGET(trace_bind, "show sockets being bound to addresses and ports");

#define SOCK_STREAM 1
#define SOCK_RAW 3
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define SYS_BIND 2 /* of socketcall(2) */

/* Bits of inet_sock.inet_flags; the kernel's enum has no name to relocate by. */
#define INET_FLAGS_FREEBIND (1 << 11)
#define INET_FLAGS_TRANSPARENT (1 << 15)
#define INET_FLAGS_BIND_ADDRESS_NO_PORT (1 << 18)

enum protocol {
	IP = 0,
	ICMP = 1,
	TCP = IPPROTO_TCP,
	UDP = IPPROTO_UDP,
	DCCP = 33,
	ICMPV6 = 58,
	L2TP = 115,
	SCTP = 132,
	UDPLITE = 136,
	RAW = 255,
	SMC = 256,
	MPTCP = 262,
};

struct event {
	GADGET_TASK_FIELDS;
	enum protocol protocol GADGET_DOC("protocol of the socket") GADGET_WIDTH(8);
	struct gadget_ip addr GADGET_DOC("address it was bound to; if the call failed, the one "
					 "that was asked for") GADGET_WIDTH(20);
	__u16 port GADGET_DOC("port it was bound to; if the call failed, the one asked for")
	    GADGET_WIDTH(5);
	bool reuseaddr GADGET_DOC("whether SO_REUSEADDR is set");
	bool reuseport GADGET_DOC("whether SO_REUSEPORT is set");
	bool freebind GADGET_DOC("whether IP_FREEBIND is set") GADGET_HIDDEN;
	bool transparent GADGET_DOC("whether IP_TRANSPARENT is set") GADGET_HIDDEN;
	bool bind_address_no_port GADGET_DOC("whether IP_BIND_ADDRESS_NO_PORT is set: the port is "
					     "chosen later") GADGET_HIDDEN;
	__u32 interface GADGET_DOC("index of the interface the socket is bound to (0: any)")
	    GADGET_WIDTH(9);
	__u32 errno GADGET_DOC("why the call failed") GADGET_TYPE(errno);
};

GADGET_EVENTS(struct event);
GADGET_PARAM(bool, ignore_errors, true, "leave out calls that failed");
GADGET_PARAM_LIST(__u16, ports, 16, "only these ports (none: all)");

/* What struct sockaddr_in and struct sockaddr_in6 have in common, and what differs. */
struct sockaddr_inet {
	__u16 family;
	__be16 port;
	union {
		__u8 ipv4[4];
		struct {
			__u32 flowinfo;
			__u8 ipv6[16];
		};
	};
};

#define SOCKADDR_IN_SIZE 16

/* Shorter addresses are refused by the kernel, and stay unknown here. */
#define READ_SOCKADDR(read, to, from, length)                                                      \
	({                                                                                         \
		int given = length;                                                                \
                                                                                                   \
		if (given >= (int)sizeof(*(to)))                                                   \
			read(to, sizeof(*(to)), from);                                             \
		else if (given >= SOCKADDR_IN_SIZE)                                                \
			read(to, SOCKADDR_IN_SIZE, from);                                          \
	})

/* fill_bound tells where the socket is now: the port is the one the kernel chose, if it had to. */
static __always_inline void fill_bound(struct event *event, struct sock *sk)
{
	struct inet_sock *inet = (void *)sk;

	event->addr.family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (event->addr.family == AF_INET)
		bpf_probe_read_kernel(event->addr.addr, sizeof(__u32),
				      &sk->__sk_common.skc_rcv_saddr);
	else
		bpf_probe_read_kernel(event->addr.addr, sizeof(event->addr.addr),
				      &sk->__sk_common.skc_v6_rcv_saddr);
	/* A raw socket keeps its protocol there. */
	if (BPF_CORE_READ(sk, sk_type) != SOCK_RAW)
		event->port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
}

static __always_inline void fill_asked(struct event *event, const struct sockaddr_inet *asked)
{
	if (asked->family == AF_INET6) {
		event->addr.family = AF_INET6;
		__builtin_memcpy(event->addr.addr, asked->ipv6, sizeof(asked->ipv6));
		event->port = bpf_ntohs(asked->port);
	} else if (asked->family == AF_INET) {
		event->addr.family = AF_INET;
		__builtin_memcpy(event->addr.addr, asked->ipv4, sizeof(asked->ipv4));
		event->port = bpf_ntohs(asked->port);
	}
}

static __always_inline void fill_options(struct event *event, struct sock *sk)
{
	struct inet_sock___before_6_6 *older = (void *)sk;
	struct inet_sock *inet = (void *)sk;

	event->interface = BPF_CORE_READ(sk, __sk_common.skc_bound_dev_if);
	event->reuseaddr = BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_reuse) != 0;
	event->reuseport = BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_reuseport);
	if (bpf_core_field_exists(inet->inet_flags)) {
		unsigned long flags = BPF_CORE_READ(inet, inet_flags);

		event->freebind = flags & INET_FLAGS_FREEBIND;
		event->transparent = flags & INET_FLAGS_TRANSPARENT;
		event->bind_address_no_port = flags & INET_FLAGS_BIND_ADDRESS_NO_PORT;
	} else {
		event->freebind = BPF_CORE_READ_BITFIELD_PROBED(older, freebind);
		event->transparent = BPF_CORE_READ_BITFIELD_PROBED(older, transparent);
		event->bind_address_no_port =
		    BPF_CORE_READ_BITFIELD_PROBED(older, bind_address_no_port);
	}
}

/* skip_port applies --ports, whose unused places are 0. */
static __always_inline bool skip_port(__u16 port)
{
	if (!param_ports[0])
		return false;
	for (int i = 0; i < sizeof(param_ports) / sizeof(param_ports[0]); i++) {
		if (port && param_ports[i] == port)
			return false;
	}
	return true;
}

static __always_inline int report(void *ctx, struct sock *sk, const struct sockaddr_inet *asked,
				  long ret)
{
	struct event event;

	__builtin_memset(&event, 0, sizeof(event));
	if (ret)
		fill_asked(&event, asked);
	else
		fill_bound(&event, sk);
	if (skip_port(event.port))
		return 0;
	gadget_fill_task(&event);
	event.protocol = BPF_CORE_READ(sk, sk_protocol);
	event.errno = ret < 0 ? -ret : 0;
	fill_options(&event, sk);
	gadget_emit(ctx, &event, sizeof(event));
	return 0;
}

/*
 * is_subflow says whether a socket is one of the TCP sockets that an MPTCP
 * socket is made of. mptcp_bind binds its first one, before Linux 6.6 through
 * inet_bind or inet6_bind: that bind has been seen, under the socket's own name.
 */
static __always_inline bool is_subflow(struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;

	if (!bpf_core_field_exists(tcp->is_mptcp))
		return false;
	return BPF_CORE_READ(sk, sk_type) == SOCK_STREAM &&
	       BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && BPF_CORE_READ(tcp, is_mptcp);
}

/* on_bind is the end of a protocol family's bind(); uaddr is the kernel's copy of the request. */
static __always_inline int on_bind(void *ctx, struct socket *sock, void *uaddr, int length, int ret)
{
	struct sock *sk = BPF_CORE_READ(sock, sk);
	struct sockaddr_inet asked = {};

	if (ret && param_ignore_errors)
		return 0;
	if (gadget_skip() || is_subflow(sk))
		return 0;
	if (ret)
		READ_SOCKADDR(bpf_probe_read_kernel, &asked, uaddr, length);
	return report(ctx, sk, &asked, ret);
}

GADGET_HOOK(bind, 1, fexit)
SEC("fexit/inet_bind")
int BPF_PROG(inet_fexit, struct socket *sock, void *uaddr, int length, int ret)
{
	return on_bind(ctx, sock, uaddr, length, ret);
}

GADGET_HOOK(bind, 1, fexit)
SEC("fexit/inet6_bind")
int BPF_PROG(inet6_fexit, struct socket *sock, void *uaddr, int length, int ret)
{
	return on_bind(ctx, sock, uaddr, length, ret);
}

GADGET_HOOK(bind, 1, fexit)
GADGET_OPTIONAL
SEC("fexit/mptcp_bind")
int BPF_PROG(mptcp_fexit, struct socket *sock, void *uaddr, int length, int ret)
{
	return on_bind(ctx, sock, uaddr, length, ret);
}

enum function {
	INET_BIND,
	INET6_BIND,
	MPTCP_BIND,
};

/* A call that a thread is in: mptcp_bind may have called inet_bind. */
struct call {
	__u32 tid;
	enum function function;
};

struct arguments {
	struct socket *sock;
	void *uaddr;
	__u64 length;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct call);
	__type(value, struct arguments);
} calls SEC(".maps");

static __always_inline int keep(enum function function, struct socket *sock, void *uaddr,
				int length)
{
	struct call call = {.tid = bpf_get_current_pid_tgid(), .function = function};
	struct arguments arguments = {.sock = sock, .uaddr = uaddr, .length = (__u32)length};

	if (gadget_skip())
		return 0;
	if (bpf_map_update_elem(&calls, &call, &arguments, BPF_ANY))
		gadget_count_lost();
	return 0;
}

static __always_inline int on_return(void *ctx, enum function function, int ret)
{
	struct call call = {.tid = bpf_get_current_pid_tgid(), .function = function};
	struct arguments *kept = bpf_map_lookup_elem(&calls, &call);
	struct arguments arguments;

	if (!kept)
		return 0;
	arguments = *kept;
	bpf_map_delete_elem(&calls, &call);
	return on_bind(ctx, arguments.sock, arguments.uaddr, arguments.length, ret);
}

GADGET_HOOK(bind, 2, kprobe)
SEC("kprobe/inet_bind")
int BPF_KPROBE(inet_kprobe, struct socket *sock, void *uaddr, int length)
{
	return keep(INET_BIND, sock, uaddr, length);
}

GADGET_HOOK(bind, 2, kprobe)
SEC("kretprobe/inet_bind")
int BPF_KRETPROBE(inet_kretprobe, int ret)
{
	return on_return(ctx, INET_BIND, ret);
}

GADGET_HOOK(bind, 2, kprobe)
SEC("kprobe/inet6_bind")
int BPF_KPROBE(inet6_kprobe, struct socket *sock, void *uaddr, int length)
{
	return keep(INET6_BIND, sock, uaddr, length);
}

GADGET_HOOK(bind, 2, kprobe)
SEC("kretprobe/inet6_bind")
int BPF_KRETPROBE(inet6_kretprobe, int ret)
{
	return on_return(ctx, INET6_BIND, ret);
}

GADGET_HOOK(bind, 2, kprobe)
GADGET_OPTIONAL
SEC("kprobe/mptcp_bind")
int BPF_KPROBE(mptcp_kprobe, struct socket *sock, void *uaddr, int length)
{
	return keep(MPTCP_BIND, sock, uaddr, length);
}

GADGET_HOOK(bind, 2, kprobe)
GADGET_OPTIONAL
SEC("kretprobe/mptcp_bind")
int BPF_KRETPROBE(mptcp_kretprobe, int ret)
{
	return on_return(ctx, MPTCP_BIND, ret);
}

/* What the caller gave to bind(2). */
struct user_request {
	__u32 fd;
	__u32 length;
	unsigned long addr;
};

/* read_request says whether the system call that ends is a bind, and with what arguments. */
static __always_inline bool read_request(bool trusted, struct pt_regs *regs,
					 struct user_request *request)
{
	long nr = gadget_syscall_nr(trusted, regs);
	bool compat;

	/* Nearly every call ends here. */
	if (nr != NR_BIND && nr != NR_COMPAT_BIND && nr != NR_COMPAT_SOCKETCALL)
		return false;
	compat = gadget_is_compat();
	if (nr == (compat ? NR_COMPAT_BIND : NR_BIND)) {
		request->fd = gadget_syscall_arg(trusted, compat, regs, 0);
		request->addr = gadget_syscall_arg(trusted, compat, regs, 1);
		request->length = gadget_syscall_arg(trusted, compat, regs, 2);
		return true;
	}
	if (compat && nr == NR_COMPAT_SOCKETCALL &&
	    gadget_syscall_arg(trusted, compat, regs, 0) == SYS_BIND) {
		__u32 arguments[3] = {};

		bpf_probe_read_user(arguments, sizeof(arguments),
				    (void *)gadget_syscall_arg(trusted, compat, regs, 1));
		request->fd = arguments[0];
		request->addr = arguments[1];
		request->length = arguments[2];
		return true;
	}
	return false;
}

/* socket_of returns the IPv4 or IPv6 socket behind a file descriptor, or NULL. */
static __always_inline struct sock *socket_of(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;
	struct socket *sock;
	struct sock *sk;
	__u16 family;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	sock = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(sock, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6 ? sk : NULL;
}

static __always_inline int on_sys_exit(void *ctx, bool trusted, struct pt_regs *regs, long ret)
{
	struct user_request request;
	struct sockaddr_inet asked = {};
	struct sock *sk;

	if (!read_request(trusted, regs, &request))
		return 0;
	if (ret && param_ignore_errors)
		return 0;
	if (gadget_skip())
		return 0;
	sk = socket_of(request.fd);
	if (!sk)
		return 0;
	if (ret)
		READ_SOCKADDR(bpf_probe_read_user, &asked, (void *)request.addr, request.length);
	return report(ctx, sk, &asked, ret);
}

GADGET_HOOK(bind, 3, tp_btf)
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit_tp_btf, struct pt_regs *regs, long ret)
{
	return on_sys_exit(ctx, true, regs, ret);
}

GADGET_HOOK(bind, 4, raw_tracepoint)
SEC("raw_tp/sys_exit")
int BPF_PROG(sys_exit_raw_tp, struct pt_regs *regs, long ret)
{
	return on_sys_exit(ctx, false, regs, ret);
}
