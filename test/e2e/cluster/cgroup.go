// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is a mounted tree of cgroups.
type hierarchy struct {
	dir string
	v2  bool
}

func hierarchies() ([]hierarchy, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[2], "cgroup") || !strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			continue
		}
		all = append(all, hierarchy{dir: fields[1], v2: fields[2] == "cgroup2"})
	}
	if len(all) == 0 {
		return nil, errors.New("no cgroups are mounted at /sys/fs/cgroup")
	}
	return all, nil
}

// group is the cgroup of one path in every hierarchy.
type group struct {
	path string
	all  []hierarchy
}

// findGroup returns the group of a path, which need not be there.
func findGroup(path string) (*group, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	return &group{path, all}, nil
}

// makeGroup makes what is missing of a group and its parents.
func makeGroup(path string) (*group, error) {
	g, err := findGroup(path)
	if err != nil {
		return nil, err
	}
	for _, h := range g.all {
		dir := h.dir
		for part := range strings.SplitSeq(path, "/") {
			if h.v2 {
				delegate(dir)
			}
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			if err := inheritCPUs(dir); err != nil {
				return nil, fmt.Errorf("making cgroup %s: %w", dir, err)
			}
		}
	}
	return g, nil
}

// delegate lets the children of a v2 cgroup use the controllers that there are.
// What they can't use, the kubelet complains of.
func delegate(dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return
	}
	for controller := range strings.FieldsSeq(string(text)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
}

// inheritCPUs gives a v1 cpuset its parent's CPUs and memory: it has none at first,
// and then takes no process.
func inheritCPUs(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.clone_children")); err != nil {
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		mine, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || strings.TrimSpace(string(mine)) != "" {
			return err
		}
		parents, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), parents, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// enter moves the calling thread into the group's v1 cgroups, and opens the v2 one,
// which takes whole processes only: those that the thread starts with it.
func (g *group) enter() (v2 *os.File, err error) {
	for _, h := range g.all {
		dir := filepath.Join(h.dir, g.path)
		if h.v2 {
			if v2, err = os.Open(dir); err != nil {
				return nil, err
			}
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0o644); err != nil {
			return nil, fmt.Errorf("entering cgroup %s: %w", dir, err)
		}
	}
	return v2, nil
}

// processes returns the ids of the processes in the group and below it, each once.
func (g *group) processes() ([]int, error) {
	var pids []int
	for _, h := range g.all {
		err := filepath.WalkDir(filepath.Join(h.dir, g.path), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return ignoreGone(err)
			}
			text, err := os.ReadFile(path)
			for field := range strings.FieldsSeq(string(text)) {
				// 0 stands for a process that this namespace doesn't see.
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// ignoreGone is for cgroups that are removed while they are looked at.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// holds tells whether a process is in the group or below it.
func (g *group) holds(pid int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), ":/")
		if path == g.path || strings.HasPrefix(path, g.path+"/") {
			return true
		}
	}
	return false
}

// signal sends a signal to a process if it is in the group. The id can't come to mean
// another process between the look and the signal.
func (g *group) signal(pid int, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return ignoreEnded(err)
	}
	defer unix.Close(fd)
	if !g.holds(pid) {
		return nil
	}
	return ignoreEnded(unix.PidfdSendSignal(fd, signal, nil, 0))
}

func ignoreEnded(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// kill ends the group's processes, also those that they start meanwhile.
func (g *group) kill(ctx context.Context) error {
	for {
		pids, err := g.processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := g.signal(pid, unix.SIGKILL); err != nil {
				return fmt.Errorf("killing process %d: %w", pid, err)
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("processes %v don't end: %w", pids, err)
		}
	}
}

// remove removes the group, which is empty but may not know it yet.
func (g *group) remove(ctx context.Context) error {
	for {
		err := g.tryRemove()
		if err == nil {
			return nil
		}
		if ctxErr := sleep(ctx, 20*time.Millisecond); ctxErr != nil {
			return errors.Join(err, ctxErr)
		}
	}
}

func (g *group) tryRemove() error {
	for _, h := range g.all {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(h.dir, g.path), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return ignoreGone(err)
		})
		if err != nil {
			return err
		}
		for _, dir := range slices.Backward(dirs) {
			if err := unix.Rmdir(dir); ignoreGone(err) != nil {
				return fmt.Errorf("removing cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}

// sleep waits, unless the context ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
