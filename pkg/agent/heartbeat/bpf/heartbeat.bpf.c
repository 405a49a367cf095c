/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * heartbeat.bpf.c: tells of each thread that takes one certain name.
 *
 * The agent gives that name to a thread of its own, over and over: if it hears of it,
 * then the kernel runs programs at tracepoints and hands over what they write. It
 * needs no types of the kernel, and threads are given names so seldom that looking at
 * each costs nobody anything.
 */
#include "kernel.h"

#define NAME_LEN 16 /* the kernel's TASK_COMM_LEN */

struct name {
	__u64 words[NAME_LEN / 8];
};

char heartbeat_license[] SEC("license") = "GPL";

/* Written before the program is loaded, so that two agents don't hear each other. */
const volatile struct name heartbeat_name = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16); /* the least that every size of pages allows */
} beats SEC(".maps");

SEC("raw_tracepoint/task_rename")
int renamed(struct bpf_raw_tracepoint_args *ctx)
{
	struct name name = {};

	bpf_probe_read_kernel_str(&name, sizeof(name), (void *)ctx->args[1]);
	if (name.words[0] != heartbeat_name.words[0] || name.words[1] != heartbeat_name.words[1])
		return 0;
	bpf_ringbuf_output(&beats, &name, sizeof(name), BPF_RB_FORCE_WAKEUP);
	return 0;
}
