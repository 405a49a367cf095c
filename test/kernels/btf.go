// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// btfHeader is magic, version, flags and header length as every little-endian
// kernel has them.
const btfHeader = "\x9f\xeb\x01\x00\x18\x00\x00\x00"

// findBTF returns a kernel's type information. It lies in the image in one
// piece, and is looked for by its header because a flat Image has no section
// table. The bytes of a header occur elsewhere too (the kernel parses BTF), so
// the lengths have to make sense, and the longest match wins.
func findBTF(image []byte) ([]byte, error) {
	var best []byte
	for rest := image; ; rest = rest[1:] {
		i := bytes.Index(rest, []byte(btfHeader))
		if i < 0 {
			break
		}
		rest = rest[i:]
		if btf := btfAt(rest); len(btf) > len(best) {
			best = btf
		}
	}
	if best == nil {
		return nil, errors.New("the kernel has no BTF")
	}
	return best, nil
}

// btfAt returns the BTF b starts with: types and strings behind the header, one
// right after the other, the strings framed by zero bytes. Nil if there is none.
func btfAt(b []byte) []byte {
	const headerLen = 24
	if len(b) < headerLen {
		return nil
	}
	field := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(b[8+4*i:])) }
	typeOff, typeLen, strOff, strLen := field(0), field(1), field(2), field(3)
	if typeOff != 0 || strOff != typeLen || typeLen%4 != 0 || typeLen == 0 || strLen == 0 {
		return nil
	}
	strStart, end := headerLen+strOff, headerLen+strOff+strLen
	if end > uint64(len(b)) || b[strStart] != 0 || b[end-1] != 0 {
		return nil
	}
	return b[:end]
}
