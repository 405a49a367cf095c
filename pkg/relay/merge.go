// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"nodegadget.dev/pkg/wire"
)

const (
	// frame is the length of what precedes a record in a batch: its length and reference.
	frame = 8
	// A batch has batchRecords or batchBytes at most, unless a single record is larger.
	// With its references to second processes the message is below 32 KiB: for a larger
	// one gRPC takes buffers of a megabyte, and clears them each time.
	batchRecords = 256
	batchBytes   = 30 << 10
	// passInterval is how often records are merged while there are some.
	passInterval = 10 * time.Millisecond
)

// clock says where a node's records have their time, and how to read it.
type clock struct {
	// offset is -1 if they have none.
	offset int
	// boot is the Unix time in nanoseconds of the node's boot.
	boot int64
}

// key is the time by which a record is put in order: its own, but not later than its
// arrival, so that a node whose clock is ahead isn't the last for ever.
func (c *clock) key(record []byte, arrived int64) int64 {
	return min(c.at(record, arrived), arrived)
}

// at is the record's time by its node's clock; if it has none, that of its arrival.
func (c *clock) at(record []byte, arrived int64) int64 {
	if c == nil || c.offset < 0 || len(record) < c.offset+8 {
		return arrived
	}
	return c.boot + int64(binary.LittleEndian.Uint64(record[c.offset:]))
}

// parcel is one message of a node: records to be merged, or a message to be passed on
// behind what the node sent before.
type parcel struct {
	lane    int
	message *wire.RunResponse
	// From alive on records of other nodes wait for this one's, until dead.
	alive, dead bool
	// From replaying on they do so without regard to the window, until replayed or dead:
	// what the node has to send was made long ago.
	replaying, replayed bool
	// share is what the parcel takes room of besides the merger's; nil for nothing.
	share *share

	clock   *clock
	arrived int64
	// records and targets are what is left of a batch.
	records []byte
	targets []uint32
	size    int64
}

// lane is what waits of one node, in its order.
type lane struct {
	parcels          []parcel
	alive, replaying bool
	// heard is when something came.
	heard int64
	// key is the time of the first record. A message to be passed on has been first for ever.
	key int64
}

// merger puts the records of many nodes into order. Nodes call push, each from a
// goroutine of its own; run does the work.
type merger struct {
	out func(*wire.RunResponse)
	// full says that out takes nothing now.
	full   func() bool
	window int64
	limit  int64
	start  time.Time
	room   *semaphore.Weighted
	wake   chan struct{}

	mu sync.Mutex
	// incoming is what no pass has looked at yet, bytes its size.
	incoming []parcel
	bytes    int64
	// ticking says that a pass is due anyway.
	ticking bool

	// The rest is run's own. heap has the lanes that have something, by key; waiting
	// counts those that have nothing, although their node is there; held is the size of
	// what is in lanes.
	replay  replay
	spare   []parcel
	lanes   []lane
	heap    []int
	waiting int
	held    int64
	batch   *wire.Batch
}

func newMerger(window time.Duration, limit int, out func(*wire.RunResponse), full func() bool) *merger {
	return &merger{
		out: out, full: full, window: int64(window), limit: int64(limit), start: time.Now(),
		room: semaphore.NewWeighted(int64(limit)), wake: make(chan struct{}, 1), batch: newBatch(),
		replay: replay{patience: int64(replayPatience)},
	}
}

func newBatch() *wire.Batch { return &wire.Batch{Records: make([]byte, 0, batchBytes)} }

// now is the Unix time in nanoseconds; it doesn't jump when the clock is set.
func (m *merger) now() int64 { return m.start.UnixNano() + int64(time.Since(m.start)) }

// push waits for room, which there is when records have been merged. So a node that
// sends more than the client reads is itself not read: its agent drops, and counts,
// and others' records get their turn.
func (m *merger) push(ctx context.Context, p parcel) error {
	p.size = min(p.size+frame, m.limit)
	if err := p.share.take(ctx, p.size); err != nil {
		return err
	}
	if err := m.room.Acquire(ctx, p.size); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.incoming = append(m.incoming, p)
	m.bytes += p.size
	if !m.ticking || p.message != nil || m.bytes > m.limit/4 {
		m.ticking = true
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// run merges until ctx ends, then hands out all that is left, as fast as it is taken.
func (m *merger) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			for m.pass(math.MaxInt64) {
				time.Sleep(passInterval)
			}
			return
		case <-m.wake:
		case <-timer.C:
		}
		if m.pass(m.now() - m.window) {
			timer.Reset(passInterval)
		}
	}
}

// pass hands out what is older than horizon, or before which nothing can come any
// more, or what there is too much of. It says whether something is left.
func (m *merger) pass(horizon int64) bool {
	m.receive()
	m.giveUpReplays()
	for len(m.heap) > 0 {
		first := &m.lanes[m.heap[0]]
		if m.early(first.key, horizon) {
			break
		}
		if m.full() {
			m.replay.blocked = m.now()
			break
		}
		m.take(first)
		if m.settle(first) {
			m.down(0)
			continue
		}
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
		m.down(0)
	}
	m.flush()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ticking = len(m.heap) > 0 || m.replay.awaited > 0 && horizon != math.MaxInt64
	return m.ticking || len(m.incoming) > 0
}

// early says that the record of the key has to wait for those of other nodes.
func (m *merger) early(key, horizon int64) bool {
	if m.held > m.limit/2 {
		return false
	}
	if m.replay.awaited > 0 && horizon != math.MaxInt64 {
		return key != math.MinInt64
	}
	return key > horizon && m.waiting > 0
}

// receive puts what was pushed into its lanes.
func (m *merger) receive() {
	m.mu.Lock()
	arrived := m.incoming
	m.held += m.bytes
	m.incoming, m.bytes = m.spare, 0
	m.mu.Unlock()
	for _, p := range arrived {
		for len(m.lanes) <= p.lane {
			m.lanes = append(m.lanes, lane{})
		}
		l := &m.lanes[p.lane]
		idle := len(l.parcels) == 0
		l.parcels = append(l.parcels, p)
		l.heard = m.now()
		if !idle {
			continue
		}
		if l.alive {
			m.waiting--
		}
		if l.replaying {
			m.replay.awaited--
		}
		if m.settle(l) {
			m.heap = append(m.heap, p.lane)
			m.up(len(m.heap) - 1)
		}
	}
	clear(arrived)
	m.spare = arrived[:0]
}

// settle drops what is done until the lane begins with a record or a message, and finds
// its time. It says whether there is one.
func (m *merger) settle(l *lane) bool {
	for len(l.parcels) > 0 {
		p := &l.parcels[0]
		if p.message != nil {
			l.key = math.MinInt64
			return true
		}
		if len(p.records) > 0 {
			length := binary.LittleEndian.Uint32(p.records)
			l.key = p.clock.key(p.records[frame:frame+length], p.arrived)
			return true
		}
		l.alive = (l.alive || p.alive) && !p.dead
		m.setReplaying(l, (l.replaying || p.replaying) && !p.replayed && !p.dead)
		p.share.release(p.size)
		m.room.Release(p.size)
		m.held -= p.size
		l.parcels[0] = parcel{}
		l.parcels = l.parcels[1:]
	}
	l.parcels = nil
	if l.alive {
		m.waiting++
	}
	if l.replaying {
		m.replay.awaited++
	}
	return false
}

// take moves the lane's first record to the batch, or passes its message on.
func (m *merger) take(l *lane) {
	p := &l.parcels[0]
	if p.message != nil {
		m.flush()
		m.out(p.message)
		p.message = nil
		return
	}
	end := frame + int(binary.LittleEndian.Uint32(p.records))
	if held := len(m.batch.Records); held > 0 && held+end > cap(m.batch.Records) {
		m.flush()
	}
	b := m.batch
	b.Records = append(b.Records, p.records[:end]...)
	p.records = p.records[end:]
	if len(p.targets) > 0 {
		for len(b.Targets) < int(b.Count) {
			b.Targets = append(b.Targets, 0)
		}
		b.Targets = append(b.Targets, p.targets[0])
		p.targets = p.targets[1:]
	} else if len(b.Targets) > 0 {
		b.Targets = append(b.Targets, 0)
	}
	b.Count++
	if b.Count >= batchRecords {
		m.flush()
	}
}

// flush sends the batch, if there is something in it. A small one gives up the memory
// that it doesn't fill, as it may be kept for long.
func (m *merger) flush() {
	b := m.batch
	if b.Count == 0 {
		return
	}
	if len(b.Records) < cap(b.Records)/2 {
		small := &wire.Batch{Count: b.Count, Records: append([]byte(nil), b.Records...), Targets: b.Targets}
		b.Records, b.Targets, b.Count = b.Records[:0], nil, 0
		b = small
	} else {
		m.batch = newBatch()
	}
	m.out(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}})
}

// up and down restore the heap's order around a lane that was added or has changed.
func (m *merger) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if m.lanes[m.heap[parent]].key <= m.lanes[m.heap[i]].key {
			return
		}
		m.heap[parent], m.heap[i] = m.heap[i], m.heap[parent]
		i = parent
	}
}

func (m *merger) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.heap); child++ {
			if m.lanes[m.heap[child]].key < m.lanes[m.heap[least]].key {
				least = child
			}
		}
		if least == i {
			return
		}
		m.heap[least], m.heap[i] = m.heap[i], m.heap[least]
		i = least
	}
}
