// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Bounds of what is read from an object. Those of real tools are far below.
const (
	maxRelocations = 1 << 20
	maxAccessor    = 64 // BPF_CORE_SPEC_MAX_LEN in libbpf
)

// relocation kinds, enum bpf_core_relo_kind in include/uapi/linux/bpf.h.
type reloKind uint32

const (
	fieldByteOffset reloKind = iota
	fieldByteSize
	fieldExists
	fieldSigned
	fieldLShift
	fieldRShift
	typeIDLocal
	typeIDTarget
	typeExists
	typeSize
	enumExists
	enumValue
	typeMatches
)

var reloNames = [...]string{
	"byte_off", "byte_sz", "field_exists", "signed", "lshift_u64", "rshift_u64",
	"local_type_id", "target_type_id", "type_exists", "type_size",
	"enumval_exists", "enumval_value", "type_matches",
}

func (k reloKind) String() string { return reloNames[k] }

// parseObject returns an object's relocations as queries, by their keys.
func parseObject(content []byte) (queries map[string]*query, err error) {
	// Package elf isn't hardened against hostile files.
	defer func() {
		if r := recover(); r != nil {
			queries, err = nil, fmt.Errorf("malformed ELF file: %v", r)
		}
	}()
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("want an eBPF object: %w", err)
	}
	if file.Machine != elf.EM_BPF {
		return nil, fmt.Errorf("ELF file for %s, want an eBPF object", file.Machine)
	}
	local, err := section(file, ".BTF", len(content))
	if err != nil {
		return nil, err
	}
	if local == nil {
		return nil, errors.New("no .BTF section: compile with clang -g -target bpf")
	}
	ext, err := section(file, ".BTF.ext", len(content))
	if err != nil || ext == nil {
		return nil, err
	}
	relocations, err := relocationsIn(ext, file.ByteOrder)
	if err != nil {
		return nil, fmt.Errorf(".BTF.ext: %w", err)
	}
	if len(relocations) == 0 {
		return nil, nil
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(local))
	if err != nil {
		return nil, fmt.Errorf("reading BTF: %w", err)
	}
	return compile(relocations, spec, localStrings(local, file.ByteOrder))
}

func section(file *elf.File, name string, limit int) ([]byte, error) {
	s := file.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if s.Flags&elf.SHF_COMPRESSED != 0 || s.FileSize > uint64(limit) {
		return nil, fmt.Errorf("section %s is compressed or longer than the file", name)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("reading section %s: %w", name, err)
	}
	return data, nil
}

// relocation is struct bpf_core_relo without the instruction.
type relocation struct {
	typeID   btf.TypeID
	accessor uint32 // offset into the strings
	kind     reloKind
}

// relocationsIn reads .BTF.ext: a header, and in its last part for each program
// section a head and records (struct btf_ext_header in libbpf).
func relocationsIn(ext []byte, order binary.ByteOrder) ([]relocation, error) {
	const minHeader, withRelocations = 8, 32
	if len(ext) < minHeader || order.Uint16(ext) != magic {
		return nil, errors.New("no header")
	}
	header := order.Uint32(ext[4:])
	if header < withRelocations || uint64(header) > uint64(len(ext)) {
		return nil, nil // older than CO-RE
	}
	rest, ok := cut(ext[header:], order.Uint32(ext[24:]), order.Uint32(ext[28:]))
	if !ok {
		return nil, errors.New("relocations are beyond the end")
	}
	if len(rest) == 0 {
		return nil, nil
	}
	if len(rest) < 4 {
		return nil, errors.New("relocations are cut short")
	}
	size := order.Uint32(rest)
	rest = rest[4:]
	if size < 16 || size%4 != 0 || size > 256 {
		return nil, fmt.Errorf("relocations of %d bytes, want 16", size)
	}
	var all []relocation
	for len(rest) > 0 {
		if len(rest) < 8 {
			return nil, errors.New("relocations are cut short")
		}
		count := uint64(order.Uint32(rest[4:]))
		rest = rest[8:]
		if count*uint64(size) > uint64(len(rest)) || uint64(len(all))+count > maxRelocations {
			return nil, fmt.Errorf("a section claims %d relocations, which are not there or too many", count)
		}
		for range count {
			r := relocation{btf.TypeID(order.Uint32(rest[4:])), order.Uint32(rest[8:]), reloKind(order.Uint32(rest[12:]))}
			if int(r.kind) >= len(reloNames) {
				return nil, fmt.Errorf("relocation of unknown kind %d", uint32(r.kind))
			}
			all = append(all, r)
			rest = rest[size:]
		}
	}
	return all, nil
}

// cut returns b[offset:offset+length].
func cut(b []byte, offset, length uint32) ([]byte, bool) {
	end := uint64(offset) + uint64(length)
	if end > uint64(len(b)) {
		return nil, false
	}
	return b[offset:end], true
}

// localStrings returns the strings of an object's BTF, which was parsed before
// and so is sound.
func localStrings(raw []byte, order binary.ByteOrder) []byte {
	strings, _ := cut(raw[order.Uint32(raw[4:]):], order.Uint32(raw[16:]), order.Uint32(raw[20:]))
	return strings
}

// compile turns relocations into queries.
func compile(relocations []relocation, spec *btf.Spec, strings []byte) (map[string]*query, error) {
	seen := make(map[relocation]bool)
	queries := make(map[string]*query)
	for _, r := range relocations {
		if r.kind == typeIDLocal || seen[r] {
			continue // has nothing to do with the kernel
		}
		seen[r] = true
		typ, err := spec.TypeByID(r.typeID)
		if err != nil {
			return nil, fmt.Errorf("%s relocation: %w", r.kind, err)
		}
		accessor, err := parseAccessor(strings, r.accessor)
		if err != nil {
			return nil, fmt.Errorf("%s relocation of %s: %w", r.kind, typ, err)
		}
		q, err := newQuery(r.kind, typ, accessor)
		if err != nil {
			return nil, fmt.Errorf("%s relocation of %s, path %v: %w", r.kind, typ, accessor, err)
		}
		queries[q.key] = q
	}
	return queries, nil
}

// parseAccessor reads a path such as 0:3:1.
func parseAccessor(table []byte, offset uint32) ([]int, error) {
	if uint64(offset) >= uint64(len(table)) {
		return nil, errors.New("path is beyond the strings")
	}
	text, _, _ := bytes.Cut(table[offset:], []byte{0})
	parts := strings.SplitN(string(text), ":", maxAccessor+1)
	if len(parts) > maxAccessor {
		return nil, fmt.Errorf("path has more than %d steps", maxAccessor)
	}
	accessor := make([]int, len(parts))
	for i, part := range parts {
		index, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("path step %.20q: want a number", part)
		}
		accessor[i] = int(index)
	}
	return accessor, nil
}
