// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/wire"
)

// recordSize is that of an event of trace exec with a few arguments.
const recordSize = 130

// flood sends records at a rate, in a batch every 20 ms as an agent does, for a while
// or until it is stopped; rate 0 is as fast as it can. It adds what it sent to sent.
func flood(rate int, sent *atomic.Uint64) func(*wire.Start, *agentRun) error {
	return func(_ *wire.Start, run *agentRun) error {
		began := time.Now()
		if err := run.header(eventHeader(began.UnixNano())); err != nil {
			return err
		}
		record := make([]byte, recordSize)
		b := &wire.Batch{}
		message := &wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}}
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			due := uint64(time.Since(began).Seconds() * float64(rate))
			if rate == 0 {
				due = run.sequence + batchRecords
			}
			for run.sequence < due {
				b.Sequence, b.Count, b.Records = run.sequence, 0, b.Records[:0]
				for ; run.sequence < due && len(b.Records) < batchBytes-recordSize; b.Count++ {
					binary.LittleEndian.PutUint64(record, uint64(time.Since(began)))
					binary.LittleEndian.PutUint64(record[8:], run.sequence)
					b.Records = wire.AppendRecord(b.Records, 0, record)
					run.sequence++
				}
				if err := run.Send(message); err != nil {
					return err
				}
				sent.Add(uint64(b.Count))
			}
			select {
			case <-run.stop:
				return run.end(nil)
			case <-ticker.C:
			default:
				if rate != 0 {
					select {
					case <-run.stop:
						return run.end(nil)
					case <-ticker.C:
					}
				}
			}
		}
	}
}

// heapWatch remembers the largest heap.
func heapWatch(tb testing.TB) (largest func() uint64) {
	tb.Helper()
	var most atomic.Uint64
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			most.Store(max(most.Load(), stats.HeapAlloc))
			select {
			case <-done:
				return
			case <-ticker.C:
			}
		}
	})
	return func() uint64 {
		close(done)
		watching.Wait()
		return most.Load()
	}
}

// TestFiftyAgents: what is lost is counted, and what is in the relay is bounded.
func TestFiftyAgents(t *testing.T) {
	const agents, rate, duration = 50, 500, 2 * time.Second
	w := newWorld(t, Options{})
	var sent atomic.Uint64
	for i := range agents {
		w.agent(fmt.Sprintf("node%d", i), flood(rate, &sent))
	}
	largest := heapWatch(t)
	v := w.start("admin", &wire.Start{})
	began := time.Now()
	received, stopped := uint64(0), false
	for {
		message, err := v.stream.Recv()
		require.NoError(t, err)
		require.Nil(t, message.GetGone(), "%v", message.GetGone())
		if end := message.GetEnd(); end != nil && message.GetNode() == 0 {
			require.Equal(t, sent.Load(), end.GetRecords())
			require.Equal(t, end.GetRecords(), received+end.GetLoss().GetRelay())
			break
		}
		received += uint64(message.GetBatch().GetCount())
		if !stopped && time.Since(began) > duration {
			v.stop()
			stopped = true
		}
	}
	require.Greater(t, received, uint64(agents*rate/2))
	require.Less(t, largest(), uint64(256<<20))
}

// TestSlowClientHoldsUpNobody: one client reads nothing, another everything. What the
// slow one doesn't read stays with the agents, which count what they drop of it; what
// its end leaves no time for is dropped here, and counted.
func TestSlowClientHoldsUpNobody(t *testing.T) {
	w := newWorld(t, Options{Memory: 1 << 20, MergeMemory: 1 << 20})
	var sent atomic.Uint64
	for i := range 4 {
		w.agent(fmt.Sprintf("node%d", i), flood(5000, &sent))
	}
	slow := w.start("admin", &wire.Start{})
	slow.session()
	quick := w.start("admin", &wire.Start{})
	got := uint64(0)
	for got < 40_000 {
		message, err := quick.stream.Recv()
		require.NoError(t, err)
		got += uint64(message.GetBatch().GetCount())
	}
	quick.stop()
	end, err := quick.drainCounting(&got)
	require.NoError(t, err)
	require.Zero(t, end.GetLoss().GetRelay())
	require.Equal(t, end.GetRecords(), got)
	require.Zero(t, w.relay.Stats().Lost)

	slow.stop()
	eventually(t, func() bool { return w.relay.Stats().Lost > 0 }, "it doesn't read to the end either")
	got = 0
	end, err = slow.drainCounting(&got)
	require.NoError(t, err)
	require.NotZero(t, end.GetLoss().GetRelay())
	require.Equal(t, end.GetRecords(), got+end.GetLoss().GetRelay())
	require.Equal(t, end.GetLoss().GetRelay(), w.relay.Stats().Lost)
}

// drainCounting reads to the end and counts records.
func (v *view) drainCounting(n *uint64) (*wire.End, error) {
	end, err := v.drain()
	for _, m := range v.got {
		if m.GetBatch() != nil {
			*n += uint64(m.GetBatch().GetCount())
		}
	}
	v.got = nil
	return end, err
}

// TestStalledClientIsCutOff, with a count.
func TestStalledClientIsCutOff(t *testing.T) {
	w := newWorld(t, Options{Memory: 1 << 20, Stall: 1500 * time.Millisecond})
	var sent atomic.Uint64
	w.agent("node1", flood(50_000, &sent))
	v := w.start("admin", &wire.Start{})
	eventually(t, func() bool { return w.relay.Stats().CutOff == 1 }, "the client is cut off")
	eventually(t, func() bool { return w.relay.Stats().Sessions == 0 }, "the session is over")
	_, err := v.drain()
	require.ErrorContains(t, err, "records were dropped because of it")
	require.ErrorContains(t, err, "has read nothing for")
	require.Contains(t, err.Error(), codes.ResourceExhausted.String())
}

// BenchmarkRelay measures what a record of many agents costs in the relay: agents
// and client are in the process as well.
func BenchmarkRelay(b *testing.B) {
	for _, agents := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			w := newWorld(b, Options{})
			var sent atomic.Uint64
			for i := range agents {
				w.agent(fmt.Sprintf("node%d", i), flood(0, &sent))
			}
			v := w.start("admin", &wire.Start{})
			v.session()
			b.ReportAllocs()
			b.ResetTimer()
			used := cpuTime(b)
			for n := 0; n < b.N; {
				message, err := v.stream.Recv()
				require.NoError(b, err)
				n += int(message.GetBatch().GetCount())
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-used)/float64(b.N), "cpu-ns/op")
			v.stop()
			for {
				message, err := v.stream.Recv()
				if err != nil || message.GetEnd() != nil && message.GetNode() == 0 {
					b.ReportMetric(float64(message.GetEnd().GetLoss().GetRelay())/float64(max(message.GetEnd().GetRecords(), 1)), "lost/record")
					break
				}
			}
		})
	}
}

// BenchmarkFiftyAgents is the load that the relay is made for: fifty agents with ten
// thousand records a second each. One operation is one second of it.
func BenchmarkFiftyAgents(b *testing.B) {
	const agents, rate = 50, 10_000
	w := newWorld(b, Options{})
	var sent atomic.Uint64
	for i := range agents {
		w.agent(fmt.Sprintf("node%d", i), flood(rate, &sent))
	}
	largest := heapWatch(b)
	v := w.start("admin", &wire.Start{})
	for range agents {
		v.until(func(m *wire.RunResponse) bool { return m.GetHeader() != nil })
	}
	v.got = nil
	used, received := cpuTime(b), uint64(0)
	for b.Loop() {
		for want := received + agents*rate; received < want; {
			message, err := v.stream.Recv()
			require.NoError(b, err)
			received += uint64(message.GetBatch().GetCount())
		}
	}
	b.ReportMetric(float64(cpuTime(b)-used)/float64(received), "cpu-ns/record")
	v.stop()
	for {
		message, err := v.stream.Recv()
		require.NoError(b, err)
		if end := message.GetEnd(); end != nil && message.GetNode() == 0 {
			b.ReportMetric(float64(end.GetLoss().GetRelay()), "lost")
			break
		}
	}
	b.ReportMetric(float64(largest())/(1<<20), "MB-heap")
}

// cpuTime is what this process has used, whatever else the machine does.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage unix.Rusage
	require.NoError(tb, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkMerge is the merger alone, on batches of many nodes.
func BenchmarkMerge(b *testing.B) {
	const nodes = 50
	out := 0
	m := newMerger(DefaultWindow, 1<<30, func(r *wire.RunResponse) { out += int(r.GetBatch().GetCount()) }, func() bool { return false })
	c := &clock{boot: time.Now().UnixNano()}
	var batch []byte
	for range batchRecords {
		batch = wire.AppendRecord(batch, 1, make([]byte, recordSize))
	}
	batches := make([][]byte, nodes)
	for i := range batches {
		batches[i] = append([]byte(nil), batch...)
		require.NoError(b, m.push(b.Context(), parcel{lane: i, alive: true}))
	}
	at := uint64(0)
	b.ReportAllocs()
	b.SetBytes(recordSize)
	for b.Loop() {
		if out > 0 {
			out--
			continue
		}
		for lane, records := range batches {
			for i := range batchRecords {
				binary.LittleEndian.PutUint64(records[i*(frame+recordSize)+frame:], at+uint64(i*nodes+lane))
			}
			p := parcel{lane: lane, clock: c, arrived: m.now(), records: records, size: int64(len(records))}
			require.NoError(b, m.push(b.Context(), p))
		}
		at += nodes * batchRecords
		m.pass(m.now())
	}
}

// BenchmarkRemap is what a node's goroutine does to each batch.
func BenchmarkRemap(b *testing.B) {
	s := &session{}
	n := &node{refs: newRefs(1, &s.refs)}
	batch := &wire.Batch{}
	for i := range uint32(batchRecords) {
		batch.Records = wire.AppendRecord(batch.Records, i%16, make([]byte, recordSize))
		batch.Count++
	}
	pristine := proto.CloneOf(batch).Records
	require.NoError(b, n.remap(batch))
	b.ReportAllocs()
	for b.Loop() {
		copy(batch.Records, pristine)
		if err := n.remap(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batchRecords, "ns/record")
}
