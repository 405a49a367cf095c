// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// runTable reads and empties the table every interval, and once more at the end.
func (t *Tracer) runTable(ctx context.Context, h Handler) error {
	interval := t.opts.Interval
	if interval == 0 {
		interval = DefaultInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for last := false; !last; {
		select {
		case <-h.Wake:
			h.Woken()
			continue
		case <-ticker.C:
		case <-ctx.Done():
			// Only what is read after this is all that there was.
			t.detach()
			last = true
		}
		if err := t.takeTable(h.Record); err != nil {
			return fmt.Errorf("reading table: %w", err)
		}
		h.Flush()
	}
	return nil
}

// takeTable puts an empty table in the place of the current one and hands out
// the latter. The kernel's update of an array of maps returns only when no
// program uses the old map any more (maybe_wait_bpf_programs in
// kernel/bpf/syscall.c), so that nothing is added to it while it is read.
func (t *Tracer) takeTable(each func([]byte)) error {
	fresh, err := ebpf.NewMap(t.template)
	if err != nil {
		return fmt.Errorf("making a new table: %w", err)
	}
	if err := t.maps[tableMap].Put(uint32(0), fresh); err != nil {
		fresh.Close()
		return fmt.Errorf("exchanging tables: %w", err)
	}
	old := t.table
	t.table = fresh
	defer old.Close()
	return t.readTable(old, each)
}

// Peek hands out what the table holds now, and leaves it as it is. Programs go on adding to
// it meanwhile. Only the handler's functions may call it.
func (t *Tracer) Peek(each func([]byte)) error {
	if t.table == nil {
		return nil
	}
	if err := t.readTable(t.table, each); err != nil {
		return fmt.Errorf("reading table: %w", err)
	}
	return nil
}

func (t *Tracer) readTable(table *ebpf.Map, each func([]byte)) error {
	var key, value []byte
	record := make([]byte, t.source.Size)
	valueOffset := (t.source.KeySize + 7) &^ 7
	entries := table.Iterate()
	for entries.Next(&key, &value) {
		clear(record)
		copy(record, key)
		copy(record[valueOffset:], value)
		each(record)
	}
	return entries.Err()
}

// runSnapshot runs the iterator program once, or every interval.
func (t *Tracer) runSnapshot(ctx context.Context, h Handler) error {
	for {
		for _, a := range t.attached {
			iterator, ok := a.link.(*link.Iter)
			if !ok {
				return fmt.Errorf("program %s is not an iterator", a.name)
			}
			if err := t.readIterator(ctx, iterator, h.Record); err != nil {
				return fmt.Errorf("reading snapshot: %w", err)
			}
		}
		h.Flush()
		if t.opts.Interval == 0 {
			return nil
		}
		if !await(ctx, t.opts.Interval, h) {
			return nil
		}
	}
}

// await waits for the end of an interval. It says whether that came before ctx ended.
func await(ctx context.Context, interval time.Duration, h Handler) bool {
	end := time.NewTimer(interval)
	defer end.Stop()
	for {
		select {
		case <-h.Wake:
			h.Woken()
		case <-end.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

func (t *Tracer) readIterator(ctx context.Context, iterator *link.Iter, each func([]byte)) error {
	out, err := iterator.Open()
	if err != nil {
		return err
	}
	defer out.Close()
	// Whole records only: the kernel may hand out any number of bytes at a time.
	record := make([]byte, t.source.Size)
	for ctx.Err() == nil {
		_, err := io.ReadFull(out, record)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(record)
	}
	return nil
}
