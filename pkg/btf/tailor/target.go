// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// BTF as Documentation/bpf/btf.rst has it: a header, types of 32-bit words, and
// strings ended by zero bytes.
const (
	magic      = 0xeb9f
	headerSize = 24
)

// kind of a type, BTF_KIND_* in include/uapi/linux/btf.h.
type kind uint32

const (
	kindVoid kind = iota
	kindInt
	kindPointer
	kindArray
	kindStruct
	kindUnion
	kindEnum
	kindFwd
	kindTypedef
	kindVolatile
	kindConst
	kindRestrict
	kindFunc
	kindFuncProto
	kindVar
	kindDatasec
	kindFloat
	kindDeclTag
	kindTypeTag
	kindEnum64
)

// Words of a type before what its kind adds: name, info, size or type.
const typeWords = 3

// maxChain bounds typedefs and qualifiers in a row. Linux has less than ten.
const maxChain = 16

// maxFull bounds the BTF of a kernel, in bytes. Kernels have about 6 MiB.
const maxFull = 256 << 20

// target is a kernel's BTF in its raw form. The words are in the order of this
// machine; everything else is as it was given.
type target struct {
	order   binary.ByteOrder
	words   []uint32
	offsets []uint32 // of each type in words; the first, void, has none
	strings []byte
}

// buffers keeps words and offsets of one target for the next.
var buffers = sync.Pool{New: func() any { return new(target) }}

// parseTarget looks at no more than what is needed to find the types: whatever
// is followed later has to be checked then.
func parseTarget(raw []byte) (*target, error) {
	if len(raw) > maxFull {
		return nil, fmt.Errorf("BTF of %d bytes: at most %d are read", len(raw), maxFull)
	}
	order, err := byteOrder(raw)
	if err != nil {
		return nil, err
	}
	body := raw[order.Uint32(raw[4:]):]
	types, ok := cut(body, order.Uint32(raw[8:]), order.Uint32(raw[12:]))
	if !ok || len(types)%4 != 0 {
		return nil, errors.New("BTF is cut short: its types are beyond the end")
	}
	strings, ok := cut(body, order.Uint32(raw[16:]), order.Uint32(raw[20:]))
	if !ok || len(strings) == 0 || strings[0] != 0 || strings[len(strings)-1] != 0 {
		return nil, errors.New("BTF is cut short or split: want strings that begin and end with a zero byte")
	}
	t := buffers.Get().(*target)
	t.order, t.strings = order, strings
	t.decode(types)
	if err := t.index(); err != nil {
		t.release()
		return nil, err
	}
	return t, nil
}

// byteOrder checks the header.
func byteOrder(raw []byte) (binary.ByteOrder, error) {
	if len(raw) < headerSize {
		return nil, fmt.Errorf("%d bytes are too short for BTF", len(raw))
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint16(raw) != magic {
		order = binary.BigEndian
	}
	if order.Uint16(raw) != magic {
		return nil, errors.New("not BTF: want raw BTF as in /sys/kernel/btf/vmlinux")
	}
	if raw[2] != 1 || raw[3] != 0 {
		return nil, fmt.Errorf("BTF of version %d with flags %#x, want version 1 without", raw[2], raw[3])
	}
	if header := order.Uint32(raw[4:]); header < headerSize || uint64(header) > uint64(len(raw)) {
		return nil, fmt.Errorf("BTF with a header of %d bytes, want %d", header, headerSize)
	}
	return order, nil
}

func (t *target) decode(types []byte) {
	n := len(types) / 4
	if cap(t.words) < n {
		t.words = make([]uint32, n)
	}
	t.words = t.words[:n]
	if t.order == binary.ByteOrder(binary.LittleEndian) {
		for i := range t.words {
			t.words[i] = binary.LittleEndian.Uint32(types[4*i:])
		}
		return
	}
	for i := range t.words {
		t.words[i] = binary.BigEndian.Uint32(types[4*i:])
	}
}

// index finds where each type begins.
func (t *target) index() error {
	t.offsets = append(t.offsets[:0], 0)
	for at := 0; at < len(t.words); {
		if at+typeWords > len(t.words) {
			return fmt.Errorf("BTF is cut short in type %d", len(t.offsets))
		}
		t.offsets = append(t.offsets, uint32(at))
		n, err := extraWords(t.words[at+1])
		if err != nil {
			return fmt.Errorf("type %d: %w", len(t.offsets)-1, err)
		}
		at += typeWords + n
		if at > len(t.words) {
			return fmt.Errorf("BTF is cut short in type %d", len(t.offsets)-1)
		}
	}
	return nil
}

// extraWords is what a type has behind its first words.
func extraWords(info uint32) (int, error) {
	n := int(info & 0xffff)
	switch k := kind(info >> 24 & 0x1f); k {
	case kindPointer, kindFwd, kindTypedef, kindVolatile, kindConst, kindRestrict, kindFunc, kindFloat, kindTypeTag:
		return 0, nil
	case kindInt, kindVar, kindDeclTag:
		return 1, nil
	case kindArray:
		return 3, nil
	case kindStruct, kindUnion, kindDatasec, kindEnum64:
		return 3 * n, nil
	case kindEnum, kindFuncProto:
		return 2 * n, nil
	default:
		return 0, fmt.Errorf("unknown kind %d: made by a newer pahole than this knows", k)
	}
}

// release gives the buffers back; t must not be used any more.
func (t *target) release() {
	t.strings = nil
	buffers.Put(t)
}

// count is one more than the highest type ID.
func (t *target) count() uint32 { return uint32(len(t.offsets)) }

// word returns a word of a type other than void.
func (t *target) word(id uint32, i int) uint32 { return t.words[int(t.offsets[id])+i] }

// extra returns the words that a type has for itself.
func (t *target) extra(id uint32) []uint32 {
	begin := int(t.offsets[id]) + typeWords
	n, _ := extraWords(t.word(id, 1)) // checked by index
	return t.words[begin : begin+n]
}

func (t *target) kind(id uint32) kind {
	if id == 0 {
		return kindVoid
	}
	return kind(t.word(id, 1) >> 24 & 0x1f)
}

// flag is the kind flag: of structs that members have bitfield sizes, of enums
// that they are signed, of forward declarations that they are unions.
func (t *target) flag(id uint32) bool { return t.word(id, 1)>>31 != 0 }

func (t *target) name(id uint32) string {
	if id == 0 {
		return ""
	}
	return t.str(t.word(id, 0))
}

// str returns a string, or none if there isn't one.
func (t *target) str(offset uint32) string {
	if offset >= uint32(len(t.strings)) {
		return ""
	}
	s := t.strings[offset:]
	return string(s[:bytes.IndexByte(s, 0)]) // the last byte is a zero
}

// is compares without making a string.
func (t *target) is(offset uint32, name string) bool {
	end := uint64(offset) + uint64(len(name))
	return end < uint64(len(t.strings)) && t.strings[end] == 0 && string(t.strings[offset:end]) == name
}

// valid checks a type ID that was read from the file.
func (t *target) valid(id uint32) error {
	if id >= t.count() {
		return fmt.Errorf("refers to type %d of %d", id, t.count())
	}
	return nil
}

// underlying skips typedefs, qualifiers and tags.
func (t *target) underlying(id uint32) (uint32, error) {
	for range maxChain {
		if err := t.valid(id); err != nil {
			return 0, err
		}
		switch t.kind(id) {
		case kindTypedef, kindVolatile, kindConst, kindRestrict, kindTypeTag:
			id = t.word(id, 2)
		default:
			return id, nil
		}
	}
	return 0, fmt.Errorf("type %d is behind more than %d typedefs and qualifiers", id, maxChain)
}

// shape is shapeOf for the kernel's types; id is underlying.
func (t *target) shape(id uint32) shape {
	switch t.kind(id) {
	case kindStruct, kindUnion:
		return shape{class: classComposite}
	case kindArray:
		return shape{class: classArray}
	case kindPointer:
		return shape{class: classPointer}
	case kindFloat:
		return shape{class: classFloat}
	case kindInt:
		return shape{class: classInt}
	case kindEnum, kindEnum64:
		return shape{classEnum, essential(t.name(id))}
	case kindFwd:
		return shape{classFwd, essential(t.name(id))}
	}
	return shape{}
}

// member i of a struct or union: its name's offset, type and position.
func (t *target) member(id uint32, i int) (name, typ, offset uint32) {
	m := t.extra(id)[3*i:]
	return m[0], m[1], m[2]
}

func (t *target) members(id uint32) int { return len(t.extra(id)) / 3 }

// bitfieldSize is in bits; zero for what isn't a bitfield.
func (t *target) bitfieldSize(id, offset uint32) uint32 {
	if !t.flag(id) {
		return 0
	}
	return offset >> 24
}

func (t *target) isEnum(id uint32) bool { return t.kind(id) == kindEnum || t.kind(id) == kindEnum64 }

// valueWords is how long a value of an enum is.
func (t *target) valueWords(id uint32) int {
	if t.kind(id) == kindEnum64 {
		return 3
	}
	return 2
}

func (t *target) values(id uint32) int { return len(t.extra(id)) / t.valueWords(id) }

// value returns the offset of the name of value i.
func (t *target) value(id uint32, i int) uint32 { return t.extra(id)[i*t.valueWords(id)] }

// oldBitfield tells that an integer is itself a part of a byte or word, which
// was how bitfields were written until pahole 1.12.
func (t *target) oldBitfield(id uint32) bool {
	if t.kind(id) != kindInt {
		return false
	}
	encoding := t.extra(id)[0]
	offset, bits := encoding>>16&0xff, encoding&0xff
	return offset > 0 || bits/8 != t.word(id, 2)
}
