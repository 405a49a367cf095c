// SPDX-License-Identifier: Apache-2.0

// Package kernel finds the type information (BTF) of the running kernel, which
// CO-RE relocations are resolved against, and remembers why it chose what it did.
//
// The order is: what the operator names, what the kernel carries itself, a
// vmlinux file where libbpf looks for it. It does not make BTF, and it does not
// yet know bundles of tailored BTF: those are a further source after these.
package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// maxFile bounds a BTF or vmlinux file, in bytes. Kernels with debug information
// reach about 1 GiB, of which only the .BTF section is read.
const maxFile = 4 << 30

// maxSection bounds the .BTF section, in bytes. Kernels have about 6 MiB.
const maxSection = 256 << 20

// SourceKind says where types come from.
type SourceKind string

// The sources, in the order in which they are tried.
const (
	Explicit SourceKind = "explicit"
	InKernel SourceKind = "in-kernel"
	OnDisk   SourceKind = "on-disk"
)

// Options say where to look.
type Options struct {
	// Path names a BTF file, an ELF file with a .BTF section, or a directory of
	// files named <release>.btf. Nothing else is tried then.
	Path string
	// Root is where the node's file system begins; empty means "/".
	Root string
	// Release is the kernel release, empty for the running kernel's.
	Release string
}

// Types are the chosen types.
type Types struct {
	// Spec is nil for InKernel: the loader reads those itself, and only when needed.
	Spec   *btf.Spec
	Source Source
}

// Source is the decision, to be shown to the operator.
type Source struct {
	Kind SourceKind
	// Path is the file that the types were read from.
	Path string
	// Release is the kernel that the types are for.
	Release string
	// Tried are the places that had nothing, each with the reason.
	Tried []string
}

// String is one line for logs.
func (s Source) String() string {
	line := fmt.Sprintf("kernel %s: BTF %s from %s", s.Release, s.Kind, s.Path)
	if len(s.Tried) > 0 {
		line += " (before that: " + strings.Join(s.Tried, "; ") + ")"
	}
	return line
}

// NotFoundError says that there is no BTF for this kernel, and what can be done.
type NotFoundError struct {
	Release string
	Tried   []string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no BTF for kernel %s: tried %s; name a BTF file with --btf, install the kernel's debug vmlinux, "+
		"or use a kernel built with CONFIG_DEBUG_INFO_BTF", e.Release, strings.Join(e.Tried, "; "))
}

// inKernelPath is where a kernel shows its own types. It is this kernel's also
// where Options.Root is another file system.
const inKernelPath = "/sys/kernel/btf/vmlinux"

// Find chooses the types of the running kernel.
func Find(opts Options) (Types, error) { return find(opts, inKernelPath) }

func find(opts Options, inKernel string) (Types, error) {
	if opts.Root == "" {
		opts.Root = "/"
	}
	if opts.Release == "" {
		release, err := Release()
		if err != nil {
			return Types{}, err
		}
		opts.Release = release
	}
	if opts.Path != "" {
		return explicit(opts)
	}
	source := Source{Kind: InKernel, Path: inKernel, Release: opts.Release}
	if f, err := os.Open(source.Path); err == nil {
		f.Close()
		return Types{Source: source}, nil
	} else {
		source.Tried = append(source.Tried, reason(source.Path, err))
	}
	source.Kind = OnDisk
	for _, pattern := range vmlinuxPaths {
		source.Path = filepath.Join(opts.Root, fmt.Sprintf(pattern, opts.Release))
		spec, err := read(source.Path)
		if err == nil {
			return Types{Spec: spec, Source: source}, nil
		}
		source.Tried = append(source.Tried, reason(source.Path, err))
	}
	return Types{}, &NotFoundError{Release: opts.Release, Tried: source.Tried}
}

// vmlinuxPaths are the places that libbpf searches (btf__load_vmlinux_btf in
// tools/lib/bpf/btf.c), relative to the root.
var vmlinuxPaths = []string{
	"boot/vmlinux-%s",
	"lib/modules/%[1]s/vmlinux-%[1]s",
	"lib/modules/%s/build/vmlinux",
	"usr/lib/modules/%s/kernel/vmlinux",
	"usr/lib/debug/boot/vmlinux-%s",
	"usr/lib/debug/boot/vmlinux-%s.debug",
	"usr/lib/debug/lib/modules/%s/vmlinux",
}

// Release is the running kernel's release, as `uname -r` prints it.
func Release() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("reading kernel release: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

func explicit(opts Options) (Types, error) {
	path := opts.Path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, opts.Release+".btf")
	}
	spec, err := read(path)
	if err != nil {
		return Types{}, fmt.Errorf("reading BTF given by --btf: %s (want a BTF file, an ELF file with a .BTF section, or a directory with %s.btf)",
			reason(path, err), opts.Release)
	}
	return Types{Spec: spec, Source: Source{Kind: Explicit, Path: path, Release: opts.Release}}, nil
}

func read(path string) (*btf.Spec, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", int64(maxFile))
	}
	file, err := elf.Open(path)
	var notELF *elf.FormatError
	if errors.As(err, &notELF) {
		return btf.LoadSpec(path)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// Not by btf.LoadSpec: that reads the symbols too, which stripped files lack.
	section := file.Section(".BTF")
	if section == nil {
		return nil, errors.New("ELF file without a .BTF section")
	}
	if section.Size > maxSection {
		return nil, fmt.Errorf(".BTF section of %d bytes, at most %d are read", section.Size, maxSection)
	}
	raw, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("reading .BTF section: %w", err)
	}
	return btf.LoadSpecFromReader(bytes.NewReader(raw))
}

func reason(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path + ": not there"
	case errors.Is(err, fs.ErrPermission):
		return path + ": not readable"
	}
	return fmt.Sprintf("%s: %v", path, err)
}
