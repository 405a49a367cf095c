// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"nodegadget.dev/pkg/gadget"
)

// Tracer is a gadget that is loaded and attached. Its methods may be called
// concurrently, but Run only once.
type Tracer struct {
	source  gadget.Source
	opts    Options
	size    uint32
	usePerf bool
	maps    map[string]*ebpf.Map
	// table is what programs add to now. Only Run and Close touch it, whereas maps may
	// be read at any time and stay as they are.
	table    *ebpf.Map
	template *ebpf.MapSpec
	buffer   *buffer
	// at is how far Run has come.
	at       Mark
	attached []attachment
	choices  []Choice
}

// Loss is what did not reach the reader since the start, but for what Excesses tells.
// Both only grow.
type Loss struct {
	// Records could not be written, because the buffer or the table was full.
	Records uint64
	// Skipped runs of programs: the kernel does not run a program inside itself
	// on one CPU. A skipped run need not have meant a record.
	Skipped uint64
}

// Open loads and attaches the gadget. From then on records pile up; Run hands
// them out. Errors say what stands in the way: an *UnsupportedError if the kernel
// has no hook for it.
func Open(object *gadget.Object, opts Options) (*Tracer, error) {
	if err := opts.Check(&object.Spec); err != nil {
		return nil, err
	}
	l, err := newLoader(object, opts)
	if err != nil {
		return nil, err
	}
	t := &Tracer{source: l.spec.Source, opts: opts, size: l.size, usePerf: l.usePerf, maps: l.maps}
	if t.source.Kind == gadget.Table {
		t.template = l.coll.Maps[t.source.Map].Copy()
	}
	if t.source.Kind == gadget.Events {
		if t.buffer, err = t.openBuffer(); err != nil {
			t.Close()
			return nil, err
		}
	}
	for _, group := range l.spec.Groups {
		choice, attached, err := l.attachGroup(group)
		if err != nil {
			t.Close()
			return nil, err
		}
		t.attached = append(t.attached, attached...)
		t.choices = append(t.choices, choice)
	}
	l.closeMaps(t.source.Map, lostMap, excessesMap, containersMap, tableMap)
	if t.source.Kind == gadget.Table {
		t.table = t.maps[t.source.Map]
		delete(t.maps, t.source.Map)
	}
	return t, nil
}

// Choices says which alternative of each group is attached.
func (t *Tracer) Choices() []Choice { return t.choices }

// UsesPerfBuffer says whether events come through a perf event array.
func (t *Tracer) UsesPerfBuffer() bool { return t.usePerf }

// Handler receives records. Its functions are called one after the other.
type Handler struct {
	// Record gets a record; its bytes are valid until it returns.
	Record func(record []byte)
	// Flush is called when no more records wait, at least every 20 ms, and for
	// tables and snapshots at the end of each interval.
	Flush func()
	// Woken is called soon after Wake could be read, while the end of an interval of a
	// table or snapshot is waited for. Both may be nil.
	Wake  <-chan struct{}
	Woken func()
}

// Run hands out records until ctx ends; then it detaches the programs, hands out
// what is still waiting and returns nil. A snapshot without an interval ends by itself.
func (t *Tracer) Run(ctx context.Context, h Handler) error {
	switch t.source.Kind {
	case gadget.Events:
		return t.runEvents(ctx, h)
	case gadget.Table:
		return t.runTable(ctx, h)
	default:
		return t.runSnapshot(ctx, h)
	}
}

// detach takes the programs from their hooks; they stay loaded, so that Lost still works.
func (t *Tracer) detach() {
	for i := range t.attached {
		t.attached[i].detach()
		t.attached[i].link = nil
	}
}

// Lost reads the counters.
func (t *Tracer) Lost() (Loss, error) {
	var loss Loss
	var perCPU []uint64
	if m := t.maps[lostMap]; m != nil {
		if err := m.Lookup(uint32(0), &perCPU); err != nil {
			return loss, fmt.Errorf("reading lost records: %w", err)
		}
	}
	for _, n := range perCPU {
		loss.Records += n
	}
	// Only this field: detach may be changing the others.
	for i := range t.attached {
		stats, err := t.attached[i].program.Stats()
		if errors.Is(err, ebpf.ErrNotSupported) {
			continue
		}
		if err != nil {
			return loss, fmt.Errorf("reading skipped runs: %w", err)
		}
		loss.Skipped += stats.RecursionMisses
	}
	return loss, nil
}

// Excess is how many events of one cgroup the kernel has left out since the start, so
// that its neighbours' are not lost. Both only grow.
type Excess struct {
	// Crowded came when all but the last 16th of the ring buffer was taken, and the
	// cgroup had had its share of that. A perf buffer is not shared out.
	Crowded uint64
	// OverBudget came after so many in a second as Options.Budget allows.
	OverBudget uint64
}

// Excesses calls each with every cgroup that has made too many events.
func (t *Tracer) Excesses(each func(cgroupID uint64, excess Excess)) error {
	m := t.maps[excessesMap]
	if m == nil {
		return nil
	}
	var cgroupID uint64
	var excess Excess
	entries := m.Iterate()
	for entries.Next(&cgroupID, &excess) {
		each(cgroupID, excess)
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("reading which cgroups make too many events: %w", err)
	}
	return nil
}

// Verdict is what the container filter does with a cgroup's records.
type Verdict uint8

// The verdicts; see enum gadget_verdict. An unknown cgroup's records are sent up.
const (
	VerdictUnknown Verdict = iota
	VerdictIn
	VerdictOut
)

// SetContainer tells the kernel-side filter what to do with a cgroup's records.
// It has an effect only with Options.FilterContainers.
func (t *Tracer) SetContainer(cgroupID uint64, verdict Verdict) error {
	m := t.maps[containersMap]
	if verdict == VerdictUnknown {
		if err := m.Delete(cgroupID); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forgetting cgroup %d: %w", cgroupID, err)
		}
		return nil
	}
	if err := m.Put(cgroupID, uint8(verdict)); err != nil {
		return fmt.Errorf("setting verdict of cgroup %d: %w", cgroupID, err)
	}
	return nil
}

// Close removes all that was loaded. It must not be called while Run runs.
func (t *Tracer) Close() {
	closeAll(t.attached)
	t.attached = nil
	if t.buffer != nil {
		t.buffer.close()
	}
	if t.table != nil {
		t.table.Close()
	}
	for _, m := range t.maps {
		m.Close()
	}
}
