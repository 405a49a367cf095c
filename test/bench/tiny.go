// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// exitZero is the machine code of exit(0).
var exitZero = map[string]struct {
	machine elf.Machine
	code    []byte
}{
	"amd64": {elf.EM_X86_64, []byte{
		0x31, 0xff, // xor edi, edi
		0xb8, 60, 0, 0, 0, // mov eax, 60
		0x0f, 0x05, // syscall
	}},
	"arm64": {elf.EM_AARCH64, []byte{
		0x00, 0x00, 0x80, 0xd2, // mov x0, #0
		0xa8, 0x0b, 0x80, 0xd2, // mov x8, #93
		0x01, 0x00, 0x00, 0xd4, // svc #0
	}},
}

// tinyProgram is the smallest program there is: executing it costs little more
// than execve itself, so what tracing adds shows.
func tinyProgram(arch string) ([]byte, error) {
	exit, ok := exitZero[arch]
	if !ok {
		return nil, fmt.Errorf("no program to execute on %s, only on amd64 and arm64", arch)
	}
	const base = 0x400000
	var header elf.Header64
	var segment elf.Prog64
	size := uint64(binary.Size(header) + binary.Size(segment))
	header = elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(exit.machine), Version: uint32(elf.EV_CURRENT),
		Entry: base + size, Phoff: uint64(binary.Size(header)), Ehsize: uint16(binary.Size(header)),
		Phentsize: uint16(binary.Size(segment)), Phnum: 1,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	total := size + uint64(len(exit.code))
	segment = elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: base, Paddr: base, Filesz: total, Memsz: total, Align: 0x10000,
	}
	var b bytes.Buffer
	for _, part := range []any{header, segment, exit.code} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return nil, fmt.Errorf("encoding a program: %w", err)
		}
	}
	return b.Bytes(), nil
}

// writeTiny puts the program of this machine at dir/name.
func writeTiny(dir, name string) (string, error) {
	program, err := tinyProgram(runtime.GOARCH)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, program, 0o700); err != nil {
		return "", fmt.Errorf("writing a program to execute: %w", err)
	}
	return path, nil
}
