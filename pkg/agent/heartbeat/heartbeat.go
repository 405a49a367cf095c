// SPDX-License-Identifier: Apache-2.0

// Package heartbeat proves that events flow: it makes an event of its own once a
// second, and looks whether it comes out of the kernel again.
package heartbeat

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // for the objects
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

//go:embed bpf/heartbeat.x86_64.o
var objectX86 []byte

//go:embed bpf/heartbeat.arm64.o
var objectARM64 []byte

// Period is how often the heart beats.
const Period = time.Second

// Heartbeat is a program that waits for an event which only this process makes. Its
// methods may be called concurrently, but Run only once.
type Heartbeat struct {
	name   [16]byte
	coll   *ebpf.Collection
	link   link.Link
	reader *ringbuf.Reader
	beats  atomic.Uint64
	missed atomic.Uint64
	// inARow is how many of the latest beats were missed.
	inARow atomic.Uint64
}

// Open loads and attaches the program.
func Open() (*Heartbeat, error) {
	h := &Heartbeat{}
	// A thread's name has 15 bytes and a zero.
	copy(h.name[:15], "beat-"+rand.Text())
	if err := h.open(); err != nil {
		h.Close()
		return nil, fmt.Errorf("opening the heartbeat: %w", err)
	}
	return h, nil
}

func (h *Heartbeat) open() error {
	// Only kernels before 5.11 need it, and loading says so if it failed.
	_ = rlimit.RemoveMemlock()
	object := objectX86
	if runtime.GOARCH == "arm64" {
		object = objectARM64
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return err
	}
	if err := spec.Variables["heartbeat_name"].Set(h.name); err != nil {
		return err
	}
	if h.coll, err = ebpf.NewCollection(spec); err != nil {
		return err
	}
	if h.reader, err = ringbuf.NewReader(h.coll.Maps["beats"]); err != nil {
		return err
	}
	h.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "task_rename", Program: h.coll.Programs["renamed"]})
	return err
}

// Run beats until ctx ends.
func (h *Heartbeat) Run(ctx context.Context) error {
	// The thread ends with this function: it can't get its former name back for sure.
	runtime.LockOSThread()
	ticker := time.NewTicker(Period)
	defer ticker.Stop()
	for {
		if err := h.beat(); err != nil {
			return fmt.Errorf("beating: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// beat makes an event and waits for it.
func (h *Heartbeat) beat() error {
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&h.name)), 0, 0, 0); err != nil {
		return err
	}
	h.beats.Add(1)
	h.reader.SetDeadline(time.Now().Add(Period / 2))
	record, err := h.reader.Read()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.missed.Add(1)
		h.inARow.Add(1)
		return nil
	case err != nil:
		return err
	case !bytes.Equal(record.RawSample, h.name[:]):
		return fmt.Errorf("the event %q isn't the one that was made", record.RawSample)
	}
	h.inARow.Store(0)
	return nil
}

// Beats counts the events that were made, and those of them that were not seen.
func (h *Heartbeat) Beats() (beats, missed uint64) { return h.beats.Load(), h.missed.Load() }

// Missed is how many of the latest beats were not seen, since the last one that was.
func (h *Heartbeat) Missed() uint64 { return h.inARow.Load() }

// Close unloads the program. It must not be called while Run runs.
func (h *Heartbeat) Close() {
	if h.link != nil {
		h.link.Close()
	}
	if h.reader != nil {
		h.reader.Close()
	}
	if h.coll != nil {
		h.coll.Close()
	}
}
