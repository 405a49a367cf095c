/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gadget.h: what a gadget is written with.
 *
 * A gadget is one C file. Everything that Go knows about it (its name, the
 * columns of its records, its parameters, which kernel hooks are alternatives
 * for one another) is said here with BTF declaration tags, which clang keeps in
 * the object's .BTF section and pkg/gadget reads back. The grammar of a tag is
 * "word" or "word:value"; docs/gadgets.md lists every word.
 */
#pragma once

#include "kernel.h"

#define GADGET_TAG(text) __attribute__((btf_decl_tag(text)))
#define GADGET_STRING_(x) #x
#define GADGET_STRING(x) GADGET_STRING_(x)

/* GADGET names the gadget (its folder's name) and says in one sentence what it shows. */
#define GADGET(name, description)                                                                  \
	char gadget_license[] GADGET_TAG("gadget:" #name) GADGET_TAG("doc:" description)           \
	    SEC("license") = "GPL"

/*
 * Fields of records. GADGET_DOC is owed by every field; the others say how a
 * value is shown. GADGET_TYPE gives a value a meaning beyond its C type:
 * timestamp (ns since boot), duration (ns), bytes, errno, signal, syscall,
 * open_flags, mode, cgroup, mntns, args (NUL-separated), log2 (histogram slots).
 */
#define GADGET_DOC(text) GADGET_TAG("doc:" text)
#define GADGET_TYPE(name) GADGET_TAG("type:" #name)
#define GADGET_WIDTH(columns) GADGET_TAG("width:" #columns)
#define GADGET_HIDDEN GADGET_TAG("hidden")

/*
 * Parameters are constants for the verifier: the tracer writes them before the
 * program is loaded, so a filter that is off costs nothing.
 */
#define GADGET_PARAM(type, name, value, text)                                                      \
	const volatile type param_##name GADGET_TAG("param:" text) = value
#define GADGET_PARAM_RANGE(type, name, value, min, max, text)                                      \
	const volatile type param_##name GADGET_TAG("param:" text)                                 \
	    GADGET_TAG("range:" #min ".." #max) = value
#define GADGET_PARAM_LIST(type, name, size, text)                                                  \
	const volatile type param_##name[size] GADGET_TAG("param:" text) = {}
#define GADGET_PARAM_STRING(name, size, text)                                                      \
	const volatile char param_##name[size] GADGET_TAG("param:" text) = {}

/*
 * Hooks. Programs of one group are alternatives: the tracer takes the lowest
 * rank whose programs all attach on this kernel. GADGET_OPTIONAL programs may
 * be missing; GADGET_WHEN programs are loaded only if a boolean parameter is set.
 */
#define GADGET_HOOK(group, rank, name) GADGET_TAG("hook:" #group "/" #rank "/" #name)
#define GADGET_OPTIONAL GADGET_TAG("optional")
#define GADGET_WHEN(param) GADGET_TAG("when:" #param)

/*
 * A gadget has one source of records. An event source is a stream; a table is
 * read and emptied every interval (a histogram is a table with a log2 field);
 * a snapshot is what an iterator program writes, once or every interval.
 */
#define GADGET_EVENTS(record)                                                                      \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, 4 << 20);                                                      \
		__type(value, record);                                                             \
	} gadget_events SEC(".maps") GADGET_TAG("source:events")

#define GADGET_SNAPSHOT(record)                                                                    \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, record);                                                             \
	} gadget_snapshot SEC(".maps") GADGET_TAG("source:snapshot")

/*
 * The table that programs write to is the one element of an array of maps. The
 * reader puts an empty table in its place, which makes the kernel wait for every
 * program that still holds the old one, and then reads the old one at leisure:
 * no increment falls between two intervals.
 */
#define GADGET_TABLE(key_type, value_type, entries)                                                \
	struct gadget_table_map {                                                                  \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, entries);                                                      \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} gadget_table_template SEC(".maps") GADGET_TAG("source:table");                           \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                          \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__array(values, struct gadget_table_map);                                          \
	} gadget_table SEC(".maps") = {.values = {(void *)&gadget_table_template}}

/* A byte string in the record's tail: where it begins, counted from the record's start. */
struct gadget_bytes {
	__u16 offset;
	__u16 length;
};

/* An address: family 2 uses the first four bytes, family 10 all sixteen. */
struct gadget_ip {
	__u32 family;
	__u8 addr[16];
};

#define GADGET_COMM_LEN 16

/* The fields that say whose event it is; gadget_fill_task() fills them. */
#define GADGET_TASK_FIELDS                                                                         \
	__u64 timestamp GADGET_DOC("when it happened") GADGET_TYPE(timestamp);                     \
	__u64 cgroup_id GADGET_DOC("id of the cgroup of the process") GADGET_TYPE(cgroup)          \
	    GADGET_HIDDEN;                                                                         \
	__u64 mntns_id GADGET_DOC("inode of the mount namespace of the process")                   \
	    GADGET_TYPE(mntns) GADGET_HIDDEN;                                                      \
	__u32 pid GADGET_DOC("process id") GADGET_WIDTH(7);                                        \
	__u32 tid GADGET_DOC("thread id") GADGET_WIDTH(7) GADGET_HIDDEN;                           \
	__u32 uid GADGET_DOC("user id") GADGET_WIDTH(6) GADGET_HIDDEN;                             \
	__u32 gid GADGET_DOC("group id") GADGET_WIDTH(6) GADGET_HIDDEN;                            \
	char comm[GADGET_COMM_LEN] GADGET_DOC("name of the thread") GADGET_WIDTH(16)

/* Parameters that every gadget has. A gadget calls gadget_skip() before all else. */
GADGET_PARAM(__u32, pid, 0, "only this process id (0: all)");
GADGET_PARAM(__u32, tid, 0, "only this thread id (0: all)");
GADGET_PARAM(__s64, uid, -1, "only this user id (-1: all)");
GADGET_PARAM_STRING(comm, GADGET_COMM_LEN, "only threads of this name");

/* Written by the tracer, not by the user. */
const volatile bool gadget_use_perf = false;
const volatile bool gadget_filter_containers = false;
const volatile __u32 gadget_buffer_bytes = 0;
const volatile __u32 gadget_budget = 0;
const volatile __u8 gadget_cgroup_v1 = 0;

/*
 * Which hierarchy a cgroup's id is of: the one that containers are told apart in.
 * Where controllers are mounted the v1 way, all may be in one cgroup of v2.
 */
enum gadget_cgroups {
	GADGET_CGROUP_V2 = 0,
	GADGET_CGROUP_V1_PIDS = 1,
	GADGET_CGROUP_V1_MEMORY = 2,
};

/* What the container filter knows about a cgroup; not knowing it means: send it up. */
enum gadget_verdict {
	GADGET_VERDICT_UNKNOWN = 0,
	GADGET_VERDICT_IN = 1,
	GADGET_VERDICT_OUT = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u8);
} gadget_containers SEC(".maps");

/* Records that could not be handed over, per CPU, only ever counting up. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} gadget_lost SEC(".maps");

static __always_inline void gadget_count_lost(void)
{
	__u32 zero = 0;
	__u64 *lost = bpf_map_lookup_elem(&gadget_lost, &zero);

	if (lost)
		*lost += 1;
}

/* gadget_entry returns the entry of key, made from fresh if it is new, or NULL if the map is full. */
static __always_inline void *gadget_entry(void *map, const void *key, const void *fresh)
{
	void *entry = bpf_map_lookup_elem(map, key);

	if (entry)
		return entry;
	bpf_map_update_elem(map, key, fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

/* gadget_cgroup_v1_id is the id of the task's cgroup in a controller's own hierarchy. */
static __always_inline __u64 gadget_cgroup_v1_id(struct task_struct *task)
{
	void *all = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *state = NULL;
	__u64 at = 0;

	/* A kernel without the controller has no such value. */
	if (gadget_cgroup_v1 == GADGET_CGROUP_V1_PIDS &&
	    bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		at = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
	else if (gadget_cgroup_v1 == GADGET_CGROUP_V1_MEMORY &&
		 bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		at = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	else
		return 0;
	at = at * sizeof(state) + bpf_core_field_offset(struct css_set, subsys);
	bpf_probe_read_kernel(&state, sizeof(state), all + at);
	return BPF_CORE_READ(state, cgroup, kn, id);
}

static __always_inline __u64 gadget_cgroup_id(struct task_struct *task)
{
	if (gadget_cgroup_v1)
		return gadget_cgroup_v1_id(task);
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/* gadget_current_cgroup_id is gadget_cgroup_id of the current task. */
static __always_inline __u64 gadget_current_cgroup_id(void)
{
	if (gadget_cgroup_v1)
		return gadget_cgroup_v1_id((void *)bpf_get_current_task());
	return bpf_get_current_cgroup_id();
}

/*
 * What a cgroup has had of what is shared out. The last 16th of the ring buffer is
 * kept for those who did not fill the rest: once the backlog has come there, a
 * cgroup may write a 16th of that, and as much again after the reader has taken
 * half a buffer. Thus one that makes records faster than they are read is cut off,
 * while its neighbours' get through. Where there is room this isn't looked at. To
 * keep more would cost a lone flood records that the whole buffer just holds.
 * With a budget, a cgroup may make so many records a second, room or not.
 */
struct gadget_share {
	__u64 read;    /* how far the reader had come when bytes was 0 */
	__u64 bytes;   /* written since into the last 16th */
	__u64 second;  /* when records was 0, ns since boot */
	__u64 records; /* made since */
};

/* Each CPU keeps up to 128 free entries for itself, so that fewer would be forgotten early. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct gadget_share);
} gadget_shares SEC(".maps");

/* Records of a cgroup that were left out for the others' sake, only ever counting up. */
struct gadget_excess {
	__u64 crowded;	   /* the buffer was nearly full of its own */
	__u64 over_budget; /* it had made too many in a second */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct gadget_excess);
} gadget_excesses SEC(".maps");

/* gadget_share_of returns what a cgroup has had, or NULL: then it may have more. */
static __always_inline struct gadget_share *gadget_share_of(__u64 cgroup_id)
{
	struct gadget_share none = {};

	return gadget_entry(&gadget_shares, &cgroup_id, &none);
}

/* gadget_excess_of returns the counters of a cgroup, or NULL if there are too many. */
static __always_inline struct gadget_excess *gadget_excess_of(__u64 cgroup_id)
{
	struct gadget_excess none = {};

	return gadget_entry(&gadget_excesses, &cgroup_id, &none);
}

/* gadget_over_budget says, and counts, that the task's cgroup has made too many records. */
static __always_inline bool gadget_over_budget(void)
{
	__u64 cgroup_id = gadget_current_cgroup_id();
	struct gadget_share *share = gadget_share_of(cgroup_id);
	__u64 now = bpf_ktime_get_boot_ns();
	struct gadget_excess *excess;

	if (!share)
		return false;
	if (now - share->second >= 1000000000) {
		share->second = now;
		share->records = 0;
	}
	__sync_fetch_and_add(&share->records, 1);
	if (share->records <= gadget_budget)
		return false;
	excess = gadget_excess_of(cgroup_id);
	if (excess)
		__sync_fetch_and_add(&excess->over_budget, 1);
	else
		gadget_count_lost();
	return true;
}

/*
 * gadget_crowds_out says, and counts, that the task's cgroup has had its share of
 * the last 16th of a ring, of which the reader has read so many bytes.
 */
static __always_inline bool gadget_crowds_out(__u64 read, __u64 size)
{
	__u64 cgroup_id = gadget_current_cgroup_id();
	struct gadget_share *share = gadget_share_of(cgroup_id);
	struct gadget_excess *excess;

	if (!share)
		return false;
	if (!share->bytes || read - share->read >= gadget_buffer_bytes / 2) {
		share->read = read;
		share->bytes = size;
		return false;
	}
	if (share->bytes < gadget_buffer_bytes / 256) {
		__sync_fetch_and_add(&share->bytes, size);
		return false;
	}
	excess = gadget_excess_of(cgroup_id);
	if (excess)
		__sync_fetch_and_add(&excess->crowded, 1);
	else
		gadget_count_lost();
	return true;
}

/* gadget_skip_task says whether the shared parameters rule this task out. */
static __always_inline bool gadget_skip_task(__u32 pid, __u32 tid, __u32 uid, const char *comm,
					     __u64 cgroup_id)
{
	if (param_pid && param_pid != pid)
		return true;
	if (param_tid && param_tid != tid)
		return true;
	if (param_uid >= 0 && param_uid != uid)
		return true;
	if (param_comm[0]) {
		for (int i = 0; i < GADGET_COMM_LEN; i++) {
			if (param_comm[i] != comm[i])
				return true;
			if (!comm[i])
				break;
		}
	}
	if (gadget_filter_containers) {
		__u8 *verdict = bpf_map_lookup_elem(&gadget_containers, &cgroup_id);

		if (verdict && *verdict == GADGET_VERDICT_OUT)
			return true;
	}
	return false;
}

/* gadget_skip is gadget_skip_task for the current task, asking only what is needed. */
static __always_inline bool gadget_skip(void)
{
	char comm[GADGET_COMM_LEN] = {};
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 cgroup_id = 0;
	__u32 uid = 0;

	if (param_uid >= 0)
		uid = bpf_get_current_uid_gid();
	if (param_comm[0])
		bpf_get_current_comm(comm, sizeof(comm));
	if (gadget_filter_containers)
		cgroup_id = gadget_current_cgroup_id();
	return gadget_skip_task(pid_tgid >> 32, pid_tgid, uid, comm, cgroup_id);
}

static __always_inline __u64 gadget_mntns_id(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
}

/* gadget_fill_task fills GADGET_TASK_FIELDS for the current task. */
#define gadget_fill_task(record)                                                                   \
	({                                                                                         \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                                       \
		__u64 uid_gid = bpf_get_current_uid_gid();                                         \
                                                                                                   \
		(record)->timestamp = bpf_ktime_get_boot_ns();                                     \
		(record)->cgroup_id = gadget_current_cgroup_id();                                  \
		(record)->mntns_id = gadget_mntns_id((void *)bpf_get_current_task());              \
		(record)->pid = pid_tgid >> 32;                                                    \
		(record)->tid = pid_tgid;                                                          \
		(record)->uid = uid_gid;                                                           \
		(record)->gid = uid_gid >> 32;                                                     \
		bpf_get_current_comm((record)->comm, sizeof((record)->comm));                      \
	})

static __always_inline void gadget_emit_ring(void *ring, void *record, __u64 size)
{
	__u64 waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
	bool wake = (waiting ^ (waiting + size)) >= gadget_buffer_bytes / 16;

	if (waiting >= gadget_buffer_bytes / 16 * 15 &&
	    gadget_crowds_out(bpf_ringbuf_query(ring, BPF_RB_CONS_POS), size))
		return;
	if (bpf_ringbuf_output(ring, record, size, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		gadget_count_lost();
}

static __always_inline void gadget_emit_perf(void *ctx, void *buffer, void *record, __u64 size)
{
	if (bpf_perf_event_output(ctx, buffer, BPF_F_CURRENT_CPU, record, size))
		gadget_count_lost();
}

/*
 * gadget_emit hands size bytes over to the reader, or counts the loss. The reader
 * is woken by the record with which the backlog passes a multiple of a 16th of the
 * buffer; for less it comes by itself soon. Waking it with each record until it
 * has come would cost more than all the rest.
 * A macro, because a gadget without an event source has no gadget_events.
 */
#define gadget_emit(ctx, record, size)                                                             \
	({                                                                                         \
		if (gadget_budget && gadget_over_budget())                                         \
			;                                                                          \
		else if (gadget_use_perf)                                                          \
			gadget_emit_perf(ctx, &gadget_events, record, size);                       \
		else                                                                               \
			gadget_emit_ring(&gadget_events, record, size);                            \
	})

/* gadget_table_now returns the table of this interval. */
#define gadget_table_now()                                                                         \
	({                                                                                         \
		__u32 zero = 0;                                                                    \
                                                                                                   \
		bpf_map_lookup_elem(&gadget_table, &zero);                                         \
	})

/*
 * gadget_table_entry returns the entry of key, made from fresh if it is new, or
 * NULL (counted) if the table is full.
 */
static __always_inline void *gadget_table_entry(void *table, const void *key, const void *fresh)
{
	void *entry;

	if (!table)
		return NULL;
	entry = gadget_entry(table, key, fresh);
	if (!entry)
		gadget_count_lost();
	return entry;
}
