// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/wire"
)

// bench is a merger whose passes a test makes.
type bench struct {
	t      *testing.T
	merger *merger
	out    []*wire.RunResponse
	full   bool
}

func newBench(t *testing.T, limit int) *bench {
	t.Helper()
	b := &bench{t: t}
	b.merger = newMerger(time.Second, limit, func(m *wire.RunResponse) { b.out = append(b.out, m) }, func() bool { return b.full })
	return b
}

func (b *bench) push(p parcel) {
	b.t.Helper()
	require.NoError(b.t, b.merger.push(b.t.Context(), p))
}

// send pushes records with these times, of a node that booted at 0, which are their
// numbers as well. They arrive at the given time.
func (b *bench) send(lane int, arrived int64, times ...uint64) {
	b.t.Helper()
	p := parcel{lane: lane, clock: &clock{}, arrived: arrived}
	for _, at := range times {
		p.records = wire.AppendRecord(p.records, uint32(lane), record(at, at))
	}
	p.size = int64(len(p.records))
	b.push(p)
}

func (b *bench) alive(lanes ...int) {
	b.t.Helper()
	for _, lane := range lanes {
		b.push(parcel{lane: lane, alive: true})
	}
}

func (b *bench) note(lane int, text string) {
	b.t.Helper()
	b.push(parcel{lane: lane, message: &wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: &wire.Notice{Text: text}}}})
}

// pass returns what a pass hands out: numbers of records, and texts of notices.
func (b *bench) pass(horizon int64) []any {
	b.out = nil
	b.merger.pass(horizon)
	var out []any
	for _, m := range b.out {
		if m.GetNotice() != nil {
			out = append(out, m.GetNotice().GetText())
		}
		for _, n := range numbersOf(recordsOf([]*wire.RunResponse{m})) {
			out = append(out, int(n))
		}
	}
	return out
}

const never = math.MaxInt64

func TestRecordsWaitForOtherNodes(t *testing.T) {
	b := newBench(t, 1<<20)
	b.alive(0, 1, 2)
	b.send(0, never, 10, 40, 50)
	b.send(1, never, 20, 30, 60)
	require.Empty(t, b.pass(5), "node 2 may have something earlier")
	require.Equal(t, []any{10, 20, 30}, b.pass(35), "but not for ever")
	b.send(2, never, 45, 70)
	require.Equal(t, []any{40, 45, 50}, b.pass(35), "now every node has something, until one has not")
	b.push(parcel{lane: 0, dead: true})
	require.Equal(t, []any{60}, b.pass(35), "who is gone isn't waited for")
	b.push(parcel{lane: 1, dead: true})
	require.Equal(t, []any{70}, b.pass(35))
	require.Zero(t, b.merger.held)
}

func TestLateRecordsComeAtOnce(t *testing.T) {
	b := newBench(t, 1<<20)
	b.alive(0, 1)
	b.send(0, never, 100)
	require.Equal(t, []any{100}, b.pass(200))
	b.send(1, never, 50)
	require.Equal(t, []any{50}, b.pass(200))
}

// TestClocksAreNotTrusted: a node whose clock is ahead or behind doesn't keep others,
// or its own records, from being sent.
func TestClocksAreNotTrusted(t *testing.T) {
	b := newBench(t, 1<<20)
	b.alive(0, 1, 2)
	b.send(0, 100, 1_000_000_000, 1_000_000_001)
	b.send(1, 110, 105)
	require.Equal(t, []any{1_000_000_000, 1_000_000_001, 105}, b.pass(120), "what comes from the future counts as arriving")
	b.send(1, 210, 205)
	for i := range uint64(3) {
		b.send(0, 220+int64(i), i)
	}
	require.Equal(t, []any{0, 1, 2, 205}, b.pass(215))
}

// TestMessagesKeepTheirPlace among a node's records, and don't wait.
func TestMessagesKeepTheirPlace(t *testing.T) {
	b := newBench(t, 1<<20)
	b.alive(0, 1)
	b.note(0, "header")
	b.send(0, never, 10, 20)
	b.note(0, "loss")
	b.send(0, never, 30)
	b.note(0, "gone")
	require.Equal(t, []any{"header"}, b.pass(5))
	require.Equal(t, []any{10}, b.pass(15))
	b.note(1, "header of 1")
	b.send(1, never, 15)
	require.Equal(t, []any{"header of 1", 15}, b.pass(15))
	require.Equal(t, []any{20, "loss", 30, "gone"}, b.pass(35))
}

// TestPressureShortensTheWindow: memory is bounded, not time.
func TestPressureShortensTheWindow(t *testing.T) {
	b := newBench(t, 1024)
	b.alive(0, 1)
	for i := range uint64(30) {
		b.send(0, never, i)
	}
	require.NotEmpty(t, b.pass(-1))
	require.LessOrEqual(t, b.merger.held, int64(512))
}

func TestFullClientHoldsUpNodes(t *testing.T) {
	b := newBench(t, 200)
	b.alive(0)
	b.full = true
	for i := range uint64(5) {
		b.send(0, never, i)
	}
	require.Empty(t, b.pass(never))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	p := parcel{clock: &clock{}, records: wire.AppendRecord(nil, 0, record(9, 9)), size: 100}
	require.ErrorIs(t, b.merger.push(ctx, p), context.DeadlineExceeded)
	b.full = false
	require.Equal(t, []any{0, 1, 2, 3, 4}, b.pass(never))
	b.push(p)
}

func TestBatchesAreRepacked(t *testing.T) {
	b := newBench(t, 64<<20)
	b.alive(0)
	for i := range uint64(1000) {
		b.send(0, never, i)
	}
	b.pass(never)
	var counts []uint32
	for _, m := range b.out {
		require.NoError(t, m.GetBatch().Check())
		counts = append(counts, m.GetBatch().GetCount())
	}
	require.Equal(t, []uint32{256, 256, 256, 232}, counts)
	huge := parcel{clock: &clock{}, records: wire.AppendRecord(wire.AppendRecord(nil, 0, make([]byte, 20<<10)), 0, make([]byte, 20<<10))}
	huge.records = wire.AppendRecord(huge.records, 0, make([]byte, 2*batchBytes))
	b.push(huge)
	b.out = nil
	b.merger.pass(never)
	require.Len(t, b.out, 3)
	for _, m := range b.out {
		require.NoError(t, m.GetBatch().Check())
	}
}

// TestRecordsWithoutRoomForATime count as of their arrival.
func TestRecordsWithoutRoomForATime(t *testing.T) {
	c := &clock{offset: 8, boot: 5}
	require.EqualValues(t, 77, c.key(make([]byte, 15), 77))
	require.EqualValues(t, 77, (&clock{offset: -1}).key(record(1, 2), 77))
	require.EqualValues(t, 7, c.key(record(1, 2), 77))
}

// TestReplaysWaitForEachOther whatever the window is, unless one is silent.
func TestReplaysWaitForEachOther(t *testing.T) {
	b := newBench(t, 1<<20)
	for lane := range 3 {
		b.push(parcel{lane: lane, alive: true, replaying: true})
	}
	b.send(0, never, 10, 40)
	b.note(0, "header")
	b.send(1, never, 20, 30)
	require.Empty(t, b.pass(100), "node 2 may have something earlier, however old")
	b.note(2, "header of 2")
	require.Equal(t, []any{"header of 2"}, b.pass(100))
	b.send(2, never, 15, 35)
	require.Equal(t, []any{10, 15, 20, 30}, b.pass(100))
	b.push(parcel{lane: 1, replayed: true})
	require.Equal(t, []any{35}, b.pass(100))
	require.False(t, b.merger.replay.told)
	b.push(parcel{lane: 2, dead: true})
	require.Equal(t, []any{40, "header"}, b.pass(100))
	require.False(t, b.merger.replay.told, "node 0 hasn't said that this was all")
	b.merger.replay.patience = 0
	b.pass(100)
	require.Len(t, b.out, 1)
	require.NotNil(t, b.out[0].GetReplayed())
	b.push(parcel{lane: 3, replaying: true})
	b.push(parcel{lane: 3, replayed: true})
	b.pass(100)
	require.Empty(t, b.out, "it is told once")
}

// TestReplayIsBounded by memory, and by the end of the session.
func TestReplayIsBounded(t *testing.T) {
	b := newBench(t, 1024)
	for lane := range 2 {
		b.push(parcel{lane: lane, alive: true, replaying: true})
	}
	for i := range uint64(30) {
		b.send(0, never, i)
	}
	require.NotEmpty(t, b.pass(100))
	require.LessOrEqual(t, b.merger.held, int64(512))
	require.Empty(t, b.pass(100))
	require.NotEmpty(t, b.pass(never))
	require.False(t, b.merger.pass(never))

	limited := newBench(t, 1<<20)
	share := limited.merger.newShare(1 << 20)
	p := parcel{clock: &clock{}, records: wire.AppendRecord(nil, 0, record(9, 9)), size: 2 * minShare, share: share}
	limited.push(p)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, limited.merger.push(ctx, p), context.DeadlineExceeded, "a node doesn't take others' room")
	limited.pass(never)
	limited.push(p)
}

// TestSlowReaderIsNoSilentNode: while the client takes nothing, nobody is given up.
func TestSlowReaderIsNoSilentNode(t *testing.T) {
	b := newBench(t, 1<<20)
	b.merger.replay.patience = int64(50 * time.Millisecond)
	b.alive(0)
	b.push(parcel{lane: 1, alive: true, replaying: true})
	b.note(0, "header")
	b.full = true
	for range 5 {
		require.Empty(t, b.pass(100))
		time.Sleep(20 * time.Millisecond)
	}
	require.Equal(t, 1, b.merger.replay.awaited)
	b.full = false
	require.Equal(t, []any{"header"}, b.pass(100))
	time.Sleep(60 * time.Millisecond)
	b.pass(100)
	require.Zero(t, b.merger.replay.awaited)
}
