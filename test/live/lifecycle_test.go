// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

// TestStoppedClientHurtsOnlyItself has two clients of which one never reads. The
// reading one's kernel buffer holds the whole flood, and the flood pauses for the
// agent's queue: on two busy cores nothing but the other client could make it lose.
func TestStoppedClientHurtsOnlyItself(t *testing.T) {
	needRoot(t)
	conn := startAgent(t)
	start := func(buffer uint64) *wire.Start {
		return &wire.Start{Gadget: "trace_open", Params: map[string]string{"comm": "flood"}, BufferSize: buffer}
	}
	stopped, err := conn.Run(t.Context(), start(0))
	require.NoError(t, err)
	reading, err := startTrace(t, conn, start(64<<20))
	require.NoError(t, err)

	// More than the first one's window, queue and buffer hold together.
	n := scale(300000)
	const burst = 10000
	for range n / burst {
		command(t, tool(t), "flood", "open", strconv.Itoa(burst))
		time.Sleep(10 * time.Millisecond)
	}
	reading.stop()
	reading.requireNoLoss()
	assert.InDelta(t, n, len(reading.records), float64(reading.end.GetLoss().GetSkipped()))

	// The one that didn't read still gets an account of what it has missed.
	late := &trace{t: t, run: stopped, done: make(chan error, 1)}
	go func() { late.done <- late.read() }()
	late.stop()
	loss := late.end.GetLoss()
	t.Logf("the stopped client: %d seen, %v", len(late.records), loss)
	assert.InDelta(t, n, uint64(len(late.records))+loss.GetKernel()+loss.GetQueue(), float64(loss.GetSkipped()))
	if !testing.Short() {
		assert.NotZero(t, loss.GetKernel()+loss.GetQueue())
	}
}

// TestNothingIsLeftAfterKill loads every gadget in a process that is killed, and
// then looks for what the kernel still has.
func TestNothingIsLeftAfterKill(t *testing.T) {
	needRoot(t)
	for _, name := range catalog(t).Names() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), tool(t), "hold", name)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "attached\n", line)
			programs, maps := held(t, cmd.Process.Pid)
			require.NotEmpty(t, programs, "the process holds no programs: the test would show nothing")
			require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
			require.Error(t, cmd.Wait())
			assert.Eventually(t, func() bool { return gone(programs, maps) }, 10*time.Second, 20*time.Millisecond,
				"programs %v or maps %v are still loaded", programs, maps)
		})
	}
}

// held lists the IDs of the programs and maps that a process has open.
func held(t *testing.T, pid int) (programs []ebpf.ProgramID, maps []ebpf.MapID) {
	t.Helper()
	infos, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fdinfo/*")
	require.NoError(t, err)
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			id, err := strconv.ParseUint(value, 10, 32)
			switch {
			case err != nil:
			case name == "prog_id":
				programs = append(programs, ebpf.ProgramID(id))
			case name == "map_id":
				maps = append(maps, ebpf.MapID(id))
			}
		}
	}
	return programs, maps
}

func gone(programs []ebpf.ProgramID, maps []ebpf.MapID) bool {
	for _, id := range programs {
		if p, err := ebpf.NewProgramFromID(id); !errors.Is(err, os.ErrNotExist) {
			p.Close()
			return false
		}
	}
	for _, id := range maps {
		if m, err := ebpf.NewMapFromID(id); !errors.Is(err, os.ErrNotExist) {
			m.Close()
			return false
		}
	}
	return true
}

// TestInterruptEndsInGoodOrder interrupts the command line as Ctrl-C does.
func TestInterruptEndsInGoodOrder(t *testing.T) {
	needRoot(t)
	cmd := exec.CommandContext(t.Context(), tool(t), "cli", "trace", "exec", "--local", "--comm", "true")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	header, err := lines.ReadString('\n')
	require.NoError(t, err, "%s", &stderr)
	assert.Contains(t, header, "ARGS")
	command(t, "/bin/true", "interrupted")
	event, err := lines.ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, event, "/bin/true interrupted")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), "status must be 0: %s", &stderr)
	assert.Regexp(t, `^[0-9,]+ events?, 0 lost\n$`, stderr.String())
}

// TestFailOnLoss wants status 1 if anything was lost, but only if asked for.
func TestFailOnLoss(t *testing.T) {
	needRoot(t)
	run := func(args ...string) (int, string) {
		args = append([]string{"cli", "trace", "open", "--local", "--comm", "flood", "--fields", "pid", "--buffer-size", "4096"}, args...)
		cmd := exec.CommandContext(t.Context(), tool(t), args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		// The header comes when the gadget is attached.
		lines := bufio.NewReader(out)
		_, err = lines.ReadString('\n')
		require.NoError(t, err)
		drained := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, lines)
			drained <- err
		}()
		command(t, tool(t), "flood", "open", strconv.Itoa(scale(100000)))
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, <-drained)
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode(), stderr.String()
	}
	status, text := run()
	assert.Zero(t, status, text)
	assert.Contains(t, text, "lost (")
	status, text = run("--fail-on-loss")
	assert.Equal(t, 1, status, text)
	assert.Contains(t, text, "events were lost")
}

// TestContainerFilter puts a process into a cgroup of its own and gives each of
// the three verdicts on it.
func TestContainerFilter(t *testing.T) {
	needRoot(t)
	dir := makeCgroup(t)
	id := cgroupID(t, dir)
	object, err := catalog(t).Object("trace_open")
	require.NoError(t, err)
	for verdict, want := range map[tracer.Verdict]int{tracer.VerdictUnknown: 100, tracer.VerdictIn: 100, tracer.VerdictOut: 0} {
		tr, err := tracer.Open(object, tracer.Options{FilterContainers: true, Params: map[string]string{"comm": "flood"}})
		require.NoError(t, err)
		require.NoError(t, tr.SetContainer(id, verdict))
		runInCgroup(t, dir, tool(t), "flood", "open", "100")
		seen := drainTracer(t, tr)
		tr.Close()
		assert.Equal(t, want, seen, "verdict %d", verdict)
	}
}

// drainTracer runs a tracer only for what has piled up already.
func drainTracer(t *testing.T, tr *tracer.Tracer) int {
	t.Helper()
	seen := 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, tr.Run(ctx, tracer.Handler{Record: func([]byte) { seen++ }, Flush: func() {}}))
	return seen
}

// makeCgroup makes a group in the cgroup v2 hierarchy, wherever that is mounted.
func makeCgroup(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var fs unix.Statfs_t
		if unix.Statfs(root, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(root, "nodegadget-test-")
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, os.Remove(dir)) })
		return dir
	}
	t.Skip("needs a cgroup v2 hierarchy")
	return ""
}

// cgroupID is the inode of the directory: what bpf_get_current_cgroup_id returns.
func cgroupID(t *testing.T, dir string) uint64 {
	t.Helper()
	info, err := os.Stat(dir)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func runInCgroup(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", `echo $$ > "$0" && exec "$@"`, dir + "/cgroup.procs", name}, args...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
