// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The header of BTF, version 1 (include/uapi/linux/btf.h). Newer kernels append
// the place of a layout section to it.
const (
	btfMagic     = 0xeb9f
	btfHeaderLen = 24
	btfLayoutLen = 32
	maxBTFHeader = 1 << 10
)

// btfHeader is what the header says. Offsets count from the header's end.
type btfHeader struct {
	order                            binary.ByteOrder
	len                              uint64
	typeOff, typeLen, strOff, strLen uint64
	layoutOff, layoutLen             uint64
}

// parseBTFHeader reads the header of either endianness.
func parseBTFHeader(b []byte) (btfHeader, error) {
	if len(b) < btfHeaderLen {
		return btfHeader{}, fmt.Errorf("not BTF: %d bytes, want at least %d", len(b), btfHeaderLen)
	}
	h := btfHeader{order: binary.LittleEndian}
	if binary.BigEndian.Uint16(b) == btfMagic {
		h.order = binary.BigEndian
	}
	if magic := h.order.Uint16(b); magic != btfMagic {
		return btfHeader{}, fmt.Errorf("not BTF: it begins with %#04x, want %#04x", magic, btfMagic)
	}
	if version := b[2]; version != 1 {
		return btfHeader{}, fmt.Errorf("BTF of version %d, want 1", version)
	}
	field := func(i int) uint64 { return uint64(h.order.Uint32(b[4*i:])) }
	h.len = field(1)
	if h.len < btfHeaderLen || h.len > maxBTFHeader || h.len > uint64(len(b)) {
		return btfHeader{}, fmt.Errorf("BTF with a header of %d bytes, want %d", h.len, btfHeaderLen)
	}
	h.typeOff, h.typeLen, h.strOff, h.strLen = field(2), field(3), field(4), field(5)
	if h.len >= btfLayoutLen {
		h.layoutOff, h.layoutLen = field(6), field(7)
	}
	return h, nil
}

// size is where the last section ends, in bytes from the header's beginning.
func (h btfHeader) size() uint64 {
	return h.len + max(h.typeOff+h.typeLen, h.strOff+h.strLen, h.layoutOff+h.layoutLen)
}

// checkBTF reports whether raw is BTF whose header makes sense. The types are not
// looked at.
func checkBTF(raw []byte) error {
	h, err := parseBTFHeader(raw)
	if err != nil {
		return Broken(err)
	}
	if h.typeLen == 0 {
		return problemf(KindEmpty, "BTF without types")
	}
	return h.check(raw)
}

func (h btfHeader) check(raw []byte) error {
	switch end := h.size(); {
	case end > uint64(len(raw)):
		return problemf(KindBroken, "BTF is cut off: %d bytes, want %d", len(raw), end)
	case h.typeOff%4 != 0 || h.typeLen%4 != 0:
		return problemf(KindBroken, "BTF with types at %d, %d bytes long: want multiples of 4", h.typeOff, h.typeLen)
	case h.typeOff < h.strOff+h.strLen && h.strOff < h.typeOff+h.typeLen:
		return problemf(KindBroken, "BTF whose types and strings overlap")
	case h.strLen == 0:
		return problemf(KindBroken, "BTF without strings")
	}
	strings := raw[h.len+h.strOff:][:h.strLen]
	if strings[0] != 0 || strings[len(strings)-1] != 0 {
		return problemf(KindBroken, "BTF whose strings don't begin and end with a zero byte")
	}
	return nil
}

// findBTF returns a kernel's types out of its decompressed image, or nil. They
// lie there in one piece, and are looked for by their header because a flat Image
// has no section table. The bytes of a header occur elsewhere too (the kernel
// parses BTF), so the lengths have to make sense, and the longest match wins.
func findBTF(image []byte) []byte {
	var best []byte
	for _, magic := range []string{"\x9f\xeb\x01\x00", "\xeb\x9f\x01\x00"} {
		for rest := image; ; rest = rest[1:] {
			i := bytes.Index(rest, []byte(magic))
			if i < 0 {
				break
			}
			rest = rest[i:]
			h, err := parseBTFHeader(rest)
			if err != nil || h.typeLen == 0 || h.typeOff != 0 || h.strOff < h.typeLen || h.strOff > h.typeLen+maxBTFHeader {
				continue
			}
			if h.size() > uint64(len(best)) && h.check(rest) == nil {
				best = rest[:h.size()]
			}
		}
	}
	return best
}
