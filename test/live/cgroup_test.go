// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bufio"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
)

// TestCgroupIDsAreOfTheWantedHierarchy for the current task, for another one that
// an event names, and for what an iterator visits.
func TestCgroupIDsAreOfTheWantedHierarchy(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		name       string
		cgroups    tracer.Cgroups
		controller string
	}{
		{"v2", tracer.CgroupV2, ""},
		{"pids", tracer.CgroupV1Pids, "pids"},
		{"memory", tracer.CgroupV1Memory, "memory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := hierarchy(t, test.controller)
			sender, senderID := newCgroup(t, tree, "sender")
			receiver, receiverID := newCgroup(t, tree, "receiver")
			pid := startIn(t, receiver)
			opts := tracer.Options{Cgroups: test.cgroups, Params: map[string]string{"target-pid": strconv.Itoa(pid), "signal": "23"}}
			records := recordsOf(t, "trace_signal", opts, func() {
				// SIGURG is ignored unless a process asks for it.
				runInCgroup(t, sender, "/bin/sh", "-ec", "kill -URG "+strconv.Itoa(pid))
			})
			require.Equal(t, []uint64{senderID}, values(t, "trace_signal", "cgroup_id", records))
			require.Equal(t, []uint64{receiverID}, values(t, "trace_signal", "target.cgroup_id", records))

			opts = tracer.Options{Cgroups: test.cgroups, Params: map[string]string{"pid": strconv.Itoa(pid)}}
			records = recordsOf(t, "snapshot_process", opts, func() {})
			require.Equal(t, []uint64{receiverID}, values(t, "snapshot_process", "cgroup_id", records))
		})
	}
}

// TestCgroupFilterKnowsTheWantedHierarchy: the verdict is about the id that records carry.
func TestCgroupFilterKnowsTheWantedHierarchy(t *testing.T) {
	needRoot(t)
	tree := hierarchy(t, "pids")
	in, inID := newCgroup(t, tree, "in")
	out, outID := newCgroup(t, tree, "out")
	object, err := catalog(t).Object("trace_exec")
	require.NoError(t, err)
	tr, err := tracer.Open(object, tracer.Options{Cgroups: tracer.CgroupV1Pids, FilterContainers: true, Params: map[string]string{"comm": "true"}})
	require.NoError(t, err)
	defer tr.Close()
	require.NoError(t, tr.SetContainer(inID, tracer.VerdictIn))
	require.NoError(t, tr.SetContainer(outID, tracer.VerdictOut))
	runInCgroup(t, out, "/bin/true")
	runInCgroup(t, in, "/bin/true")
	runInCgroup(t, out, "/bin/true")
	require.Equal(t, []uint64{inID}, slices.DeleteFunc(values(t, "trace_exec", "cgroup_id", readAll(t, tr)),
		func(id uint64) bool { return id != inID && id != outID }))
}

// hierarchy is where the tree of a controller is mounted, or that of v2. Where v2 has
// the controller, or the kernel has it for v2 only (no CONFIG_MEMCG_V1), its tree is
// that of v2, as far down as it is enabled.
func hierarchy(t *testing.T, controller string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if controller == "" && fields[2] == "cgroup2" {
			return fields[1]
		}
		if controller != "" && fields[2] == "cgroup" && slices.Contains(strings.Split(fields[3], ","), controller) {
			return fields[1]
		}
	}
	dir, kind := t.TempDir(), "cgroup2"
	if controller != "" {
		// Where the v1 way is usual, each has a directory of its name.
		dir, kind = filepath.Join(dir, controller), "cgroup"
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	err = unix.Mount("nodegadget", dir, kind, 0, controller)
	if err != nil && controller != "" {
		tree := hierarchy(t, "")
		if ofV2 := os.WriteFile(filepath.Join(tree, "cgroup.subtree_control"), []byte("+"+controller), 0); ofV2 != nil {
			t.Skipf("needs cgroup controller %s: not in v1 (%v), nor in v2 (%v)", controller, err, ofV2)
		}
		return tree
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	return dir
}

// newCgroup makes a cgroup, and says its id.
func newCgroup(t *testing.T, tree, name string) (dir string, id uint64) {
	t.Helper()
	dir = filepath.Join(tree, "nodegadget-live-"+name)
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() {
		// A process leaves it a little after it was waited for.
		require.Eventually(t, func() bool { return os.Remove(dir) == nil }, 5*time.Second, 5*time.Millisecond)
	})
	return dir, cgroupID(t, dir)
}

// startIn starts a process in a cgroup that waits until the test ends.
func startIn(t *testing.T, cgroup string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo $$ >"+cgroup+"/cgroup.procs; echo; read wait")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return cmd.Process.Pid
}

// recordsOf traces while do runs.
func recordsOf(t *testing.T, name string, opts tracer.Options, do func()) [][]byte {
	t.Helper()
	object, err := catalog(t).Object(name)
	require.NoError(t, err)
	tr, err := tracer.Open(object, opts)
	require.NoError(t, err)
	defer tr.Close()
	do()
	return readAll(t, tr)
}

func readAll(t *testing.T, tr *tracer.Tracer) [][]byte {
	t.Helper()
	// What waits in the buffer is handed out after the end.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var records [][]byte
	require.NoError(t, tr.Run(ctx, tracer.Handler{
		Record: func(record []byte) { records = append(records, slices.Clone(record)) },
		Flush:  func() {},
	}))
	return records
}

// values are those of a field of 8 bytes.
func values(t *testing.T, name, field string, records [][]byte) []uint64 {
	t.Helper()
	object, err := catalog(t).Object(name)
	require.NoError(t, err)
	at := slices.IndexFunc(object.Spec.Source.Fields, func(f gadget.Field) bool { return f.Name == field })
	require.GreaterOrEqual(t, at, 0)
	var all []uint64
	for _, record := range records {
		all = append(all, binary.NativeEndian.Uint64(record[object.Spec.Source.Fields[at].Offset:]))
	}
	return all
}
