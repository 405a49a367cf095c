// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/tracer"
)

// opensOf traces the generator's opens.
func opensOf(t *testing.T, opts tracer.Options) *tracer.Tracer {
	t.Helper()
	object, err := catalog(t).Object("trace_open")
	require.NoError(t, err)
	opts.Params = map[string]string{"comm": "flood"}
	tr, err := tracer.Open(object, opts)
	require.NoError(t, err)
	t.Cleanup(tr.Close)
	return tr
}

// counts are records by their cgroup.
func counts(t *testing.T, records [][]byte) map[uint64]uint64 {
	t.Helper()
	n := map[uint64]uint64{}
	for _, id := range values(t, "trace_open", "cgroup_id", records) {
		n[id]++
	}
	return n
}

func excesses(t *testing.T, tr *tracer.Tracer) map[uint64]tracer.Excess {
	t.Helper()
	all := map[uint64]tracer.Excess{}
	require.NoError(t, tr.Excesses(func(id uint64, e tracer.Excess) { all[id] = e }))
	return all
}

// TestFloodLeavesRoomForNeighbours fills a buffer that nobody reads: who did not fill it
// still finds room, and what is left out of the flood is counted as its own.
func TestFloodLeavesRoomForNeighbours(t *testing.T) {
	needRoot(t)
	loud, quiet := makeCgroup(t), makeCgroup(t)
	loudID, quietID := cgroupID(t, loud), cgroupID(t, quiet)
	tr := opensOf(t, tracer.Options{BufferSize: 1 << 20})
	if tr.UsesPerfBuffer() {
		t.Skip("needs ring buffers: this kernel has only perf buffers, which are not shared out")
	}
	// A 256th of the buffer holds so few.
	const flood, few = 15000, 30
	runInCgroup(t, loud, tool(t), "flood", "open", strconv.Itoa(flood))
	runInCgroup(t, quiet, tool(t), "flood", "open", strconv.Itoa(few))
	excess := excesses(t, tr)
	seen := counts(t, readAll(t, tr))
	t.Logf("seen %v, left out %v", seen, excess)
	assert.EqualValues(t, few, seen[quietID])
	assert.EqualValues(t, flood, seen[loudID]+excess[loudID].Crowded)
	assert.NotZero(t, excess[loudID].Crowded, "the flood has found room, so that the test shows nothing")
	assert.Equal(t, map[uint64]tracer.Excess{loudID: {Crowded: excess[loudID].Crowded}}, excess)
	lost, err := tr.Lost()
	require.NoError(t, err)
	assert.Zero(t, lost.Records)
}

// TestShareIsGrantedAnew: who has had its share may fill the buffer again when it was read.
func TestShareIsGrantedAnew(t *testing.T) {
	needRoot(t)
	loud := makeCgroup(t)
	id := cgroupID(t, loud)
	tr := opensOf(t, tracer.Options{BufferSize: 1 << 20})
	if tr.UsesPerfBuffer() {
		t.Skip("needs ring buffers: this kernel has only perf buffers, which are not shared out")
	}
	ctx, cancel := context.WithCancel(t.Context())
	gate, done := make(chan struct{}), make(chan error, 1)
	var seen uint64
	go func() {
		<-gate
		done <- tr.Run(ctx, tracer.Handler{Record: func([]byte) { seen++ }, Flush: func() {}})
	}()
	const flood, more = 15000, 500
	runInCgroup(t, loud, tool(t), "flood", "open", strconv.Itoa(flood))
	before := excesses(t, tr)[id].Crowded
	close(gate)
	time.Sleep(200 * time.Millisecond)
	runInCgroup(t, loud, tool(t), "flood", "open", strconv.Itoa(more))
	cancel()
	require.NoError(t, <-done)
	assert.NotZero(t, before)
	assert.Equal(t, before, excesses(t, tr)[id].Crowded, "there was room again")
	assert.EqualValues(t, flood+more, seen+before)
}

// TestBudgetOfCgroup: more than a budget's worth in a second is left out, of the cgroup that
// makes it and of nobody else, through both kinds of buffers.
func TestBudgetOfCgroup(t *testing.T) {
	needRoot(t)
	for name, perf := range map[string]bool{"ring": false, "perf": true} {
		t.Run(name, func(t *testing.T) {
			loud, quiet := makeCgroup(t), makeCgroup(t)
			loudID, quietID := cgroupID(t, loud), cgroupID(t, quiet)
			const budget, flood, few = 200, 5000, 100
			tr := opensOf(t, tracer.Options{PerfBuffer: perf, BufferSize: 8 << 20, Budget: budget})
			begin := time.Now()
			runInCgroup(t, loud, tool(t), "flood", "open", strconv.Itoa(flood))
			// Each second begun grants one budget, and the first may begin at any time.
			most := budget * (uint64(time.Since(begin)/time.Second) + 2)
			runInCgroup(t, quiet, tool(t), "flood", "open", strconv.Itoa(few))
			excess := excesses(t, tr)
			seen := counts(t, readAll(t, tr))
			t.Logf("seen %v, left out %v", seen, excess)
			assert.EqualValues(t, few, seen[quietID])
			assert.EqualValues(t, flood, seen[loudID]+excess[loudID].OverBudget)
			assert.GreaterOrEqual(t, seen[loudID], uint64(budget))
			assert.LessOrEqual(t, seen[loudID], most)
			assert.Equal(t, map[uint64]tracer.Excess{loudID: {OverBudget: excess[loudID].OverBudget}}, excess)
		})
	}
}
