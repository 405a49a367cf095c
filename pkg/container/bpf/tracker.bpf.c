/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tracker.bpf.c: tells of each cgroup that is made or removed in one hierarchy.
 *
 * The kernel calls it before anybody else can find a new cgroup, so that it is
 * told of before a process is in there.
 */
#include "kernel.h"

#define PATH_LEN 1024 /* the kernel's TRACE_CGROUP_PATH_LEN */

/* As in tracker.go. */
enum op {
	MADE = 1,
	REMOVED = 2,
};

/*
 * As much of the path is sent as it has, with the terminating zero. There is room
 * for what a mask lets through, which older verifiers understand better than a test.
 */
struct event {
	__u64 id;
	__u64 parent;
	__u32 op;
	char path[2 * PATH_LEN];
};

char tracker_license[] SEC("license") = "GPL";

/* Written before the program is loaded. 0 is the hierarchy of v2. */
const volatile __s32 hierarchy = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

/* Both calls are made with the lock of all cgroups held: one after the other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event);
} scratch SEC(".maps");

/* What could not be told, only ever counting up. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline int tell(enum op op, struct cgroup *cgroup, const char *path)
{
	struct event *event;
	__u64 *missed;
	__u32 zero = 0;
	long length;

	if (BPF_CORE_READ(cgroup, root, hierarchy_id) != hierarchy)
		return 0;
	event = bpf_map_lookup_elem(&scratch, &zero);
	missed = bpf_map_lookup_elem(&lost, &zero);
	if (!event || !missed)
		return 0;
	event->id = BPF_CORE_READ(cgroup, kn, id);
	event->parent = BPF_CORE_READ(cgroup, self.parent, cgroup, kn, id);
	event->op = op;
	length = bpf_probe_read_kernel_str(event->path, PATH_LEN, path);
	if (length < 0)
		length = 0;
	length &= 2 * PATH_LEN - 1;
	/* Whoever waits for a container's first event can't wait for more of them. */
	if (bpf_ringbuf_output(&events, event, __builtin_offsetof(struct event, path) + length,
			       BPF_RB_FORCE_WAKEUP))
		__sync_fetch_and_add(missed, 1);
	return 0;
}

SEC("raw_tracepoint/cgroup_mkdir")
int made(struct bpf_raw_tracepoint_args *ctx)
{
	return tell(MADE, (void *)ctx->args[0], (void *)ctx->args[1]);
}

SEC("raw_tracepoint/cgroup_rmdir")
int removed(struct bpf_raw_tracepoint_args *ctx)
{
	return tell(REMOVED, (void *)ctx->args[0], (void *)ctx->args[1]);
}
