// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxDepth bounds how far down the tree is followed, with one open file a level.
const maxDepth = 256

// errDeep says that part of a tree wasn't visited.
var errDeep = fmt.Errorf("cgroups more than %d levels deep were left out", maxDepth)

// tree is one hierarchy of cgroups, as it is mounted. Links can't lead out of it.
type tree struct {
	dir       *os.Root
	hierarchy Hierarchy
}

// found is a cgroup in the tree. Its path is counted from where the tree is mounted.
type found struct {
	id, parent uint64
	path       string
}

// openTree finds the hierarchy in which containers are told apart below the
// directory where all of them are mounted.
func openTree(cgroups string) (*tree, error) {
	dir, err := os.OpenRoot(cgroups)
	if err != nil {
		return nil, fmt.Errorf("opening cgroups: %w", err)
	}
	if kind, err := fileSystem(dir, "."); err == nil && kind == unix.CGROUP2_SUPER_MAGIC {
		return &tree{dir: dir, hierarchy: V2}, nil
	}
	defer dir.Close()
	for _, place := range []struct {
		name      string
		kind      int64
		hierarchy Hierarchy
	}{
		{"pids", unix.CGROUP_SUPER_MAGIC, V1Pids},
		{"memory", unix.CGROUP_SUPER_MAGIC, V1Memory},
		{"unified", unix.CGROUP2_SUPER_MAGIC, V2},
	} {
		if kind, err := fileSystem(dir, place.name); err != nil || kind != place.kind {
			continue
		}
		below, err := dir.OpenRoot(place.name)
		if err != nil {
			return nil, fmt.Errorf("opening cgroups: %w", err)
		}
		return &tree{dir: below, hierarchy: place.hierarchy}, nil
	}
	return nil, fmt.Errorf("opening cgroups: %s has neither cgroup v2 nor the pids or memory controller of v1", cgroups)
}

// fileSystem is the kind of it that a directory lies on.
func fileSystem(dir *os.Root, name string) (int64, error) {
	file, err := dir.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &stat); err != nil {
		return 0, err
	}
	return stat.Type, nil
}

// walk visits every cgroup, each before those below it. Cgroups that are made or
// removed meanwhile may be visited or not.
func (t *tree) walk(visit func(found)) error {
	info, err := t.dir.Stat(".")
	if err != nil {
		return fmt.Errorf("reading cgroups: %w", err)
	}
	root := found{id: inode(info), path: "/"}
	visit(root)
	if err := walkBelow(t.dir, root, 1, visit); err != nil {
		return fmt.Errorf("reading cgroups: %w", err)
	}
	return nil
}

func walkBelow(dir *os.Root, above found, depth int, visit func(found)) error {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return ignoreRemoved(err)
	}
	if depth == maxDepth && slices.ContainsFunc(entries, fs.DirEntry.IsDir) {
		return errDeep
	}
	var all error
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		all = errors.Join(all, ignoreRemoved(walkOne(dir, entry.Name(), above, depth, visit)))
	}
	return all
}

func walkOne(dir *os.Root, name string, above found, depth int, visit func(found)) error {
	below, err := dir.OpenRoot(name)
	if err != nil {
		return err
	}
	defer below.Close()
	info, err := below.Stat(".")
	if err != nil {
		return err
	}
	one := found{id: inode(info), parent: above.id, path: path.Join(above.path, name)}
	visit(one)
	return walkBelow(below, one, depth+1, visit)
}

// ignoreRemoved leaves out that a cgroup was removed while it was looked at.
func ignoreRemoved(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func inode(info fs.FileInfo) uint64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return stat.Ino
}

func (t *tree) close() { t.dir.Close() }

// membership is what /proc/self/cgroup says of one hierarchy.
type membership struct {
	// number is the kernel's of the hierarchy.
	number int32
	// path is this process's cgroup, counted from the root of its cgroup namespace.
	path string
}

// readMembership finds the line of a hierarchy in the text of /proc/self/cgroup.
func readMembership(text string, of Hierarchy) (membership, error) {
	for line := range strings.Lines(text) {
		number, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, own, ok := strings.Cut(rest, ":")
		n, err := strconv.ParseInt(number, 10, 32)
		if !ok || err != nil {
			continue
		}
		if of == V2 && n == 0 || of != V2 && slices.Contains(strings.Split(controllers, ","), of.controller()) {
			return membership{number: int32(n), path: own}, nil
		}
	}
	return membership{}, fmt.Errorf("this process is in no cgroup of %s", of)
}

// controller is the one that a hierarchy of v1 is mounted for.
func (h Hierarchy) controller() string {
	switch h {
	case V1Pids:
		return "pids"
	case V1Memory:
		return "memory"
	default:
		return ""
	}
}

// ownIDs are ids that this process's cgroup may have: by its path, and by what is
// mounted here, which in a container is often only its own part of the tree.
func ownIDs(mounted string, of Hierarchy, own string) []uint64 {
	var ids []uint64
	for _, dir := range []string{mounted, filepath.Join(mounted, "unified"), filepath.Join(mounted, of.controller())} {
		var kind unix.Statfs_t
		want := int64(unix.CGROUP_SUPER_MAGIC)
		if of == V2 {
			want = unix.CGROUP2_SUPER_MAGIC
		}
		if unix.Statfs(dir, &kind) != nil || kind.Type != want {
			continue
		}
		for _, at := range []string{filepath.Join(dir, own), dir} {
			var stat unix.Stat_t
			if unix.Stat(at, &stat) == nil {
				ids = append(ids, stat.Ino)
			}
		}
	}
	return ids
}
