// SPDX-License-Identifier: Apache-2.0

// Package witness proves that type information (BTF) is the running kernel's.
//
// Wrong BTF loads without an error and then gives wrong values. So a small eBPF
// program, relocated against the types in question, reads facts about the
// calling thread; what it reads is compared with what system calls, /proc and the
// kernel's helpers say. The package doesn't choose types and doesn't say what
// follows from a testimony: that is pkg/btf/kernel's business.
package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // for the objects
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/tailor"
)

// patience bounds a check, in which the program is given many occasions to run:
// kernels may leave out single runs.
const patience = time.Second

//go:embed bpf/witness.x86_64.o
var objectX86 []byte

//go:embed bpf/witness.arm64.o
var objectARM64 []byte

// Objects are the eBPF programs that testify, for each architecture. Tailored BTF
// that should be provable must serve them too.
func Objects() []tailor.Object {
	return []tailor.Object{Object("x86_64"), Object("arm64")}
}

// Object is that of one architecture: "arm64", or else x86_64.
func Object(arch string) tailor.Object {
	if arch == "arm64" {
		return tailor.Object{Name: "witness.arm64.o", Content: objectARM64}
	}
	return tailor.Object{Name: "witness.x86_64.o", Content: objectX86}
}

// Check lets the program testify about types. It takes about 20 ms and needs what
// loading eBPF needs: root, or CAP_BPF and CAP_PERFMON. An error means that it
// could not be asked, and neither that the types are right nor that they are wrong.
func Check(ctx context.Context, types *btf.Spec) (Testimony, error) {
	// What is asked about is this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	testimony, err := check(ctx, types)
	if len(testimony.Disagreed) > 0 {
		// The truth may have changed meanwhile: a parent that ended. Not twice.
		testimony, err = check(ctx, types)
	}
	return testimony, err
}

func check(ctx context.Context, types *btf.Spec) (Testimony, error) {
	asked, err := newSubject()
	if err != nil {
		return Testimony{}, err
	}
	defer asked.close()
	got, err := testify(ctx, types, asked)
	if err != nil {
		return Testimony{}, err
	}
	return compare(got, asked.truth(got)), nil
}

// testify loads the program and makes it run once on this thread.
func testify(ctx context.Context, types *btf.Spec, asked *subject) (*report, error) {
	// Only kernels before 5.11 need it, and loading says so if it failed.
	_ = rlimit.RemoveMemlock()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(Object(runtime.GOARCH).Content))
	if err != nil {
		return nil, fmt.Errorf("reading the witness: %w", err)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: types}})
	if err != nil {
		return nil, fmt.Errorf("loading the witness: %w", hint(err))
	}
	defer coll.Close()
	var cookie [8]byte
	if _, err := rand.Read(cookie[:]); err != nil {
		return nil, fmt.Errorf("calling the witness: %w", err)
	}
	told := report{Cookie: binary.NativeEndian.Uint64(cookie[:]), File: uint64(asked.file.number), Socket: uint64(asked.socket.number)}
	page := coll.Maps["witness"]
	if err := page.Put(uint32(0), &told); err != nil {
		return nil, fmt.Errorf("calling the witness: %w", err)
	}
	at, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: coll.Programs["testify"]})
	if err != nil {
		return nil, fmt.Errorf("attaching the witness to system calls (which needs CONFIG_FTRACE_SYSCALLS): %w", hint(err))
	}
	defer at.Close()
	for {
		// The call ignores its arguments; the program knows the thread by them.
		parent, _, _ := unix.RawSyscall(unix.SYS_GETPPID, uintptr(told.Cookie), 0, 0)
		var got report
		if err := page.Lookup(uint32(0), &got); err != nil {
			return nil, fmt.Errorf("asking the witness: %w", err)
		}
		if got.Done != 0 {
			asked.parent = int(parent)
			return &got, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the witness didn't run on this thread's system calls: %w", context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}

// hint adds to a permission error what is needed.
func hint(err error) error {
	var verifier *ebpf.VerifierError
	if errors.Is(err, os.ErrPermission) && !errors.As(err, &verifier) {
		return fmt.Errorf("checking BTF needs root, or CAP_BPF and CAP_PERFMON on Linux 5.8 and newer: %w", err)
	}
	return err
}
