// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

const (
	// maxFile bounds a BTF or vmlinux file, in bytes. Kernels with debug information
	// reach about 1 GiB, of which only the .BTF section is read.
	maxFile = 4 << 30
	// maxSection bounds raw BTF, in bytes. Kernels have about 6 MiB.
	maxSection = 64 << 20
	// maxNotes bounds the notes of a kernel, in bytes. They have less than 1 KiB.
	maxNotes = 64 << 10
)

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

// image is what was read of a kernel's file.
type image struct {
	raw []byte
	// buildID is empty for raw BTF, and for ELF files that have none.
	buildID []byte
	// installed says that EncodeELF made it.
	installed bool
}

// readPath reads a file that the operator named.
func readPath(path string) (image, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return image{}, err
	}
	defer file.Close()
	if err := checkRegular(file, maxFile); err != nil {
		return image{}, err
	}
	return readImage(file)
}

// readImage reads raw BTF, or the sections of an ELF file that matter here.
func readImage(file *os.File) (image, error) {
	var begin [4]byte
	if n, err := file.ReadAt(begin[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return image{}, err
	} else if string(begin[:n]) != elf.ELFMAG {
		return readRaw(file)
	}
	parsed, err := elf.NewFile(file)
	if err != nil {
		return image{}, err
	}
	section := parsed.Section(".BTF")
	if section == nil {
		return image{}, errors.New("ELF file without a .BTF section")
	}
	if section.Size > maxSection {
		return image{}, fmt.Errorf(".BTF section of %d bytes, at most %d are read", section.Size, maxSection)
	}
	raw, err := section.Data()
	if err != nil {
		return image{}, fmt.Errorf("reading .BTF section: %w", err)
	}
	return image{raw: raw, buildID: fileBuildID(parsed), installed: parsed.Section(installedSection) != nil}, nil
}

func readRaw(file *os.File) (image, error) {
	raw, err := io.ReadAll(io.NewSectionReader(file, 0, maxSection+1))
	switch {
	case err != nil:
		return image{}, err
	case len(raw) > maxSection:
		return image{}, fmt.Errorf("neither an ELF file nor BTF of at most %d bytes", maxSection)
	case len(raw) < 4 || binary.NativeEndian.Uint16(raw) != magic:
		return image{}, errors.New("neither an ELF file nor raw BTF of this CPU's byte order")
	}
	return image{raw: raw}, nil
}

// magic begins raw BTF, in the byte order of its kernel.
const magic = 0xeB9F

// fileBuildID looks in every section of notes: kernels have theirs in .notes.
func fileBuildID(file *elf.File) []byte {
	for _, section := range file.Sections {
		if section.Type != elf.SHT_NOTE || section.Size > maxNotes {
			continue
		}
		if notes, err := section.Data(); err == nil {
			if id := findBuildID(notes, file.ByteOrder); id != nil {
				return id
			}
		}
	}
	return nil
}

// runningBuildID is that of the running kernel, nil if it can't be told.
func runningBuildID(path string) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	notes, err := io.ReadAll(io.LimitReader(file, maxNotes))
	if err != nil {
		return nil
	}
	return findBuildID(notes, binary.NativeEndian)
}

// findBuildID reads ELF notes: sizes of name and content, type, name, content.
func findBuildID(notes []byte, order binary.ByteOrder) []byte {
	const header, gnuBuildID = 12, 3
	for len(notes) >= header {
		name, content := uint64(order.Uint32(notes)), uint64(order.Uint32(notes[4:]))
		begin := header + (name+3)&^3
		end := begin + content
		if end > uint64(len(notes)) {
			return nil
		}
		if order.Uint32(notes[8:]) == gnuBuildID && bytes.HasPrefix(notes[header:], []byte("GNU\x00")) && name == 4 && content > 0 {
			return notes[begin:end]
		}
		notes = notes[min(uint64(len(notes)), (end+3)&^3):]
	}
	return nil
}

// compareBuildIDs says whether both are known and equal; if they differ, the
// error says so.
func compareBuildIDs(file, running []byte) (same bool, err error) {
	if len(file) == 0 || len(running) == 0 {
		return false, nil
	}
	if !bytes.Equal(file, running) {
		return false, fmt.Errorf("build-id is %s, want %s",
			hex.EncodeToString(file[:min(len(file), 20)]), hex.EncodeToString(running[:min(len(running), 20)]))
	}
	return true, nil
}
