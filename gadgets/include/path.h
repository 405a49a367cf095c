/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * path.h: the absolute path of a struct path, as the process sees it: from its
 * own root, across mounts.
 */
#pragma once

#include "gadget.h"

#define GADGET_PATH_DEPTH 48
#define GADGET_NAME_MAX 256 /* NAME_MAX and one */

/*
 * A path is built from its end. Where it starts is kept in the map, not in a
 * register: what is read back from there is any number to the verifier, so that
 * the ways through the loop look alike and need not all be followed.
 */
struct gadget_path_buffer {
	volatile __u32 start;
	char text[PATH_MAX + GADGET_NAME_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gadget_path_buffer);
} gadget_path_scratch SEC(".maps");

/* gadget_path_prepend puts a slash and length bytes of name before what is there. */
static __always_inline bool gadget_path_prepend(struct gadget_path_buffer *buffer,
						const unsigned char *name, __u32 length)
{
	__u32 start = buffer->start;

	if (length >= GADGET_NAME_MAX || start <= length)
		return false;
	start -= length + 1;
	buffer->start = start;
	buffer->text[start & (PATH_MAX - 1)] = '/';
	bpf_probe_read_kernel(&buffer->text[(start + 1) & (PATH_MAX - 1)],
			      length & (GADGET_NAME_MAX - 1), name);
	return true;
}

/*
 * gadget_path copies the path of a dentry on a mount to out, which has room for
 * PATH_MAX bytes, and returns its length, without a terminating zero. Of more
 * than GADGET_PATH_DEPTH components the first are left out.
 */
static __always_inline __u32 gadget_path(struct vfsmount *vfsmount, struct dentry *dentry,
					 char *out)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct vfsmount *root_mnt = BPF_CORE_READ(task, fs, root.mnt);
	struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
	struct gadget_path_buffer *buffer;
	__u32 zero = 0;
	__u32 length;

	buffer = bpf_map_lookup_elem(&gadget_path_scratch, &zero);
	if (!buffer || !dentry)
		return 0;
	/* One byte short of PATH_MAX, so that a mask bounds the length. */
	buffer->start = PATH_MAX - 1;
	for (int i = 0; i < GADGET_PATH_DEPTH; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		if (dentry == root && vfsmount == root_mnt)
			break;
		if (dentry == BPF_CORE_READ(vfsmount, mnt_root)) {
			struct mount *up = BPF_CORE_READ(mount, mnt_parent);

			if (up == mount)
				break;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = up;
			vfsmount = (void *)mount + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		/* What has no parent lies on no mount: a pipe, a socket, a deleted root. */
		if (dentry == parent ||
		    !gadget_path_prepend(buffer, BPF_CORE_READ(dentry, d_name.name),
					 BPF_CORE_READ(dentry, d_name.len)))
			break;
		dentry = parent;
	}
	if (buffer->start == PATH_MAX - 1)
		gadget_path_prepend(buffer, NULL, 0);
	length = (PATH_MAX - 1 - buffer->start) & (PATH_MAX - 1);
	bpf_probe_read_kernel(out, length, &buffer->text[buffer->start & (PATH_MAX - 1)]);
	return length;
}

/* gadget_file_path is gadget_path of an open file. */
static __always_inline __u32 gadget_file_path(struct file *file, char *out)
{
	if (!file)
		return 0;
	return gadget_path(BPF_CORE_READ(file, f_path.mnt), BPF_CORE_READ(file, f_path.dentry),
			   out);
}
