// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	_ "embed" // for the objects
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"nodegadget.dev/pkg/btf/tailor"
)

//go:embed bpf/tracker.x86_64.o
var trackerX86 []byte

//go:embed bpf/tracker.arm64.o
var trackerARM64 []byte

// Object is the tracker's, of one architecture: "arm64", or else x86_64. What
// chooses kernel types for a registry needs it; a bundle has to serve it.
func Object(arch string) tailor.Object {
	if arch == "arm64" {
		return tailor.Object{Name: "tracker.arm64.o", Content: trackerARM64}
	}
	return tailor.Object{Name: "tracker.x86_64.o", Content: trackerX86}
}

// The operations of tracker.bpf.c, and the size of an event less its path.
const (
	opMade      = 1
	opRemoved   = 2
	eventHeader = 20
)

// event says that a cgroup was made or removed.
type event struct {
	id, parent uint64
	removed    bool
	// name is the last component of the path.
	name string
	// last says that no other one waits.
	last bool
}

// tracker is the program that tells of cgroups.
type tracker struct {
	coll   *ebpf.Collection
	links  []link.Link
	reader *ringbuf.Reader
	record ringbuf.Record
}

// newTracker loads and attaches the program for one hierarchy, by the kernel's
// number of it. The buffer's size in bytes may be 0 for the usual.
func newTracker(types *btf.Spec, hierarchy int32, size uint32) (*tracker, error) {
	// Only kernels before 5.11 need it, and loading says so if it failed.
	_ = rlimit.RemoveMemlock()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(Object(runtime.GOARCH).Content))
	if err != nil {
		return nil, fmt.Errorf("reading the tracker of cgroups: %w", err)
	}
	if size != 0 {
		spec.Maps["events"].MaxEntries = size
	}
	if err := spec.Variables["hierarchy"].Set(hierarchy); err != nil {
		return nil, fmt.Errorf("preparing the tracker of cgroups: %w", err)
	}
	t := &tracker{}
	if t.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: types}}); err != nil {
		return nil, fmt.Errorf("loading the tracker of cgroups: %w", hint(err))
	}
	if err := t.attach(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tracker) attach() error {
	var err error
	if t.reader, err = ringbuf.NewReader(t.coll.Maps["events"]); err != nil {
		return fmt.Errorf("opening the tracker's buffer: %w", err)
	}
	for program, hook := range map[string]string{"made": "cgroup_mkdir", "removed": "cgroup_rmdir"} {
		at, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: hook, Program: t.coll.Programs[program]})
		if err != nil {
			return fmt.Errorf("attaching the tracker of cgroups to %s: %w", hook, hint(err))
		}
		t.links = append(t.links, at)
	}
	return nil
}

// next waits for an event until the deadline, and then returns what there is
// before it returns os.ErrDeadlineExceeded.
func (t *tracker) next() (event, error) {
	if err := t.reader.ReadInto(&t.record); err != nil {
		return event{}, err
	}
	e, err := parseEvent(t.record.RawSample)
	e.last = t.record.Remaining == 0
	return e, err
}

func parseEvent(sample []byte) (event, error) {
	if len(sample) < eventHeader {
		return event{}, fmt.Errorf("event of %d bytes, want at least %d", len(sample), eventHeader)
	}
	e := event{
		id:      binary.NativeEndian.Uint64(sample),
		parent:  binary.NativeEndian.Uint64(sample[8:]),
		removed: binary.NativeEndian.Uint32(sample[16:]) == opRemoved,
	}
	text, _, _ := bytes.Cut(sample[eventHeader:], []byte{0})
	e.name = path.Base(string(text))
	return e, nil
}

// lost counts the events that the buffer had no room for.
func (t *tracker) lost() (uint64, error) {
	var n uint64
	if err := t.coll.Maps["lost"].Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("reading what the tracker lost: %w", err)
	}
	return n, nil
}

// wake makes next return with an error soon.
func (t *tracker) wake() { _ = t.reader.Flush() }

func (t *tracker) setDeadline(at time.Time) { t.reader.SetDeadline(at) }

func (t *tracker) close() {
	for _, l := range t.links {
		l.Close()
	}
	if t.reader != nil {
		t.reader.Close()
	}
	t.coll.Close()
}

// hint adds to a permission error what is needed.
func hint(err error) error {
	var verifier *ebpf.VerifierError
	if errors.Is(err, os.ErrPermission) && !errors.As(err, &verifier) {
		return fmt.Errorf("following cgroups needs root, or CAP_BPF and CAP_PERFMON on Linux 5.8 and newer: %w", err)
	}
	return err
}
