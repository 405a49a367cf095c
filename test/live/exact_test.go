// SPDX-License-Identifier: Apache-2.0

package live

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/wire"
)

// TestEveryExecIsSeenOnce starts many short programs and looks for each of them.
func TestEveryExecIsSeenOnce(t *testing.T) {
	needRoot(t)
	n := scale(1000)
	tr := mustTrace(t, &wire.Start{Gadget: "trace_exec", Params: map[string]string{"comm": "true"}})
	parent := command(t, tool(t), "execs", strconv.Itoa(n))
	tr.stop()
	tr.requireNoLoss()
	args, err := tr.schema.Column("args")
	require.NoError(t, err)
	seen := map[string]int{}
	for _, record := range tr.records {
		if tr.number(record, "ppid") != int64(parent) {
			continue
		}
		assert.Zero(t, tr.number(record, "ret"))
		var list []string
		for item := range args.Value(record).Items() {
			list = append(list, string(item))
		}
		seen[strings.Join(list, " ")]++
	}
	skipped := tr.end.GetLoss().GetSkipped()
	assert.InDelta(t, n, len(seen), float64(skipped), "the kernel left out %d program runs", skipped)
	for exec, times := range seen {
		assert.Equal(t, 1, times, "exec %s", exec)
	}
}

// TestBooksBalance makes a known number of events, with room for all of them and
// with nearly none, through both kinds of buffers: what was not seen was counted.
func TestBooksBalance(t *testing.T) {
	needRoot(t)
	// Without SIGCHLD, which the generator's end may send.
	urgent := map[string]string{"signal": "23"}
	cases := []struct {
		name, gadget, kind string
		params             map[string]string
		n                  int
		buffer             uint64
		perf               bool
		mustLose           bool
	}{
		{name: "opens with room", gadget: "trace_open", kind: "open", n: 20000},
		{name: "opens with room, perf", gadget: "trace_open", kind: "open", n: 20000, perf: true, buffer: 16 << 20},
		{name: "opens through 4 KiB", gadget: "trace_open", kind: "open", n: 50000, buffer: 4096, mustLose: true},
		{name: "opens through 4 KiB, perf", gadget: "trace_open", kind: "open", n: 50000, buffer: 4096, perf: true, mustLose: true},
		{name: "signals with room", gadget: "trace_signal", kind: "signal", params: urgent, n: 10000},
		{name: "signals through 4 KiB", gadget: "trace_signal", kind: "signal", params: urgent, n: 30000, buffer: 4096, mustLose: true},
		{name: "binds with room", gadget: "trace_bind", kind: "bind", n: 10000},
		{name: "binds through 4 KiB", gadget: "trace_bind", kind: "bind", n: 20000, buffer: 4096},
	}
	conn := startAgent(t)
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			n := scale(c.n)
			params := map[string]string{"comm": "flood"}
			maps.Copy(params, c.params)
			tr, err := startTrace(t, conn, &wire.Start{
				Gadget: c.gadget, Params: params, BufferSize: c.buffer, PerfBuffer: c.perf,
			})
			require.NoError(t, err)
			command(t, tool(t), "flood", c.kind, strconv.Itoa(n))
			tr.stop()
			loss := tr.end.GetLoss()
			seen := uint64(len(tr.records))
			t.Logf("sent %d, seen %d, lost %v", n, seen, loss)
			// A run that the kernel left out need not have been for one of ours.
			assert.InDelta(t, n, seen+loss.GetKernel()+loss.GetQueue(), float64(loss.GetSkipped()),
				"seen and lost must add up to what was sent")
			if c.mustLose && !testing.Short() {
				assert.NotZero(t, loss.GetKernel(), "a 4 KiB buffer can't hold this")
			}
			if c.buffer != 4096 {
				assert.Zero(t, loss.GetKernel()+loss.GetQueue())
			}
		})
	}
}

// TestTableIsExact counts calls over many intervals: none falls between two.
func TestTableIsExact(t *testing.T) {
	needRoot(t)
	n := scale(200000)
	tr := mustTrace(t, &wire.Start{
		Gadget: "top_syscall", Params: map[string]string{"comm": "tool"}, Interval: int64(20 * time.Millisecond),
	})
	command(t, tool(t), "syscalls", strconv.Itoa(n))
	tr.stop()
	var total, intervals int64
	for _, record := range tr.records {
		name, err := tr.schema.Column("syscall_name")
		require.NoError(t, err)
		if string(name.Value(record).Text) == "getppid" {
			total += tr.number(record, "count")
			intervals++
		}
	}
	t.Logf("%d calls in %d intervals", total, intervals)
	assert.InDelta(t, n, total, float64(tr.end.GetLoss().GetSkipped()))
}

// TestLossIsToldWhileNothingHappens wants to know of a loss before the run ends,
// without a further event to carry it.
func TestLossIsToldWhileNothingHappens(t *testing.T) {
	needRoot(t)
	tr := mustTrace(t, &wire.Start{
		Gadget: "trace_open", Params: map[string]string{"comm": "flood"}, BufferSize: 4096,
	})
	command(t, tool(t), "flood", "open", strconv.Itoa(scale(50000)))
	time.Sleep(2 * time.Second)
	tr.stop()
	require.NotZero(t, tr.end.GetLoss().GetKernel())
	assert.NotZero(t, tr.losses, "the loss came only with the end")
}

// TestSharedFilters switches on the filters that every gadget has.
func TestSharedFilters(t *testing.T) {
	needRoot(t)
	conn := startAgent(t)
	cases := []struct {
		name   string
		params map[string]string
		want   uint64
	}{
		{"comm", map[string]string{"comm": "flood"}, 100},
		{"other comm", map[string]string{"comm": "floo"}, 0},
		{"uid", map[string]string{"uid": "0", "comm": "flood"}, 100},
		{"other uid", map[string]string{"uid": "12345", "comm": "flood"}, 0},
		{"other pid", map[string]string{"pid": "1", "comm": "flood"}, 0},
		{"other tid", map[string]string{"tid": "1", "comm": "flood"}, 0},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			tr, err := startTrace(t, conn, &wire.Start{Gadget: "trace_open", Params: c.params})
			require.NoError(t, err)
			command(t, tool(t), "flood", "open", "100")
			tr.stop()
			tr.requireNoLoss()
			assert.InDelta(t, c.want, len(tr.records), float64(tr.end.GetLoss().GetSkipped()))
		})
	}
}
