// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net/netip"
	"strconv"

	"nodegadget.dev/pkg/gadget"
)

// ValueKind says which members of a Value hold.
type ValueKind uint8

// The kinds of values.
const (
	// Null is a value that the record doesn't have.
	Null ValueKind = iota
	// Int is signed: Value.Int.
	Int
	// Uint is unsigned: Value.Uint.
	Uint
	// Bool is Value.Uint != 0.
	Bool
	// Text is Value.Text.
	Text
	// List is texts, each ended by a zero byte, in Value.Text: see Value.Items.
	List
	// Time is nanoseconds since the Unix epoch: Value.Int.
	Time
	// Slots is an array of counts: see Value.Slot.
	Slots
)

// String names the kind as inspect shows it.
func (k ValueKind) String() string {
	return [...]string{"null", "int", "uint", "bool", "text", "list", "time", "slots"}[k]
}

// Value is one value of one record. Its Text is valid until the record's bytes
// change or the same column is read again.
type Value struct {
	Kind ValueKind
	bits uint64
	// Text is as the kernel or a traced process wrote it: not safe to print.
	Text []byte
	elem uint32
}

// Int is the number of an Int or Time.
func (v Value) Int() int64 { return int64(v.bits) }

// Uint is the number of a Uint or Bool.
func (v Value) Uint() uint64 { return v.bits }

// Items are the texts of a List.
func (v Value) Items() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := v.Text; len(rest) > 0; {
			item, after, _ := bytes.Cut(rest, []byte{0})
			if !yield(item) {
				return
			}
			rest = after
		}
	}
}

// Len is the number of Slots.
func (v Value) Len() int {
	if v.elem == 0 {
		return 0
	}
	return len(v.Text) / int(v.elem)
}

// Slot is the count in slot i of Slots, 0 <= i < Len().
func (v Value) Slot(i int) uint64 { return number(v.Text[i*int(v.elem):][:v.elem]) }

// Value reads the column's value from a record.
func (c *Column) Value(record []byte) Value { return c.read(c, record) }

func reader(field *gadget.Field) (ValueKind, func(*Column, []byte) Value) {
	switch field.Kind {
	case gadget.Int:
		return Int, readInt
	case gadget.Bool:
		return Bool, readBool
	case gadget.String:
		return Text, readString
	case gadget.Enum:
		return Text, readEnum
	case gadget.IP:
		return Text, readIP
	case gadget.Slots:
		return Slots, readSlots
	case gadget.Tail:
		if field.Semantic == gadget.Args {
			return List, readArgs
		}
		return Text, readTail
	}
	if field.Semantic == gadget.Timestamp {
		return Time, readTime
	}
	return Uint, readUint
}

// slice returns the field's bytes, or nil if the record ends before them.
func (c *Column) slice(record []byte) []byte {
	end := uint64(c.field.Offset) + uint64(c.field.Size)
	if end > uint64(len(record)) {
		return nil
	}
	return record[c.field.Offset:end:end]
}

func number(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	case 8:
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func signed(b []byte) int64 {
	shift := max(64-8*len(b), 0)
	return int64(number(b)<<shift) >> shift
}

func readUint(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	return Value{Kind: Uint, bits: number(b)}
}

func readInt(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	return Value{Kind: Int, bits: uint64(signed(b))}
}

func readBool(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	v := Value{Kind: Bool}
	if b[0] != 0 {
		v.bits = 1
	}
	return v
}

func readTime(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	return Value{Kind: Time, bits: number(b) + uint64(c.boot)}
}

func readString(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return Value{Kind: Text, Text: b}
}

// tail resolves a struct gadget_bytes. A reference out of the record is Null:
// the record was cut, or its writer is broken.
func (c *Column) tail(record []byte) ([]byte, bool) {
	b := c.slice(record)
	if b == nil {
		return nil, false
	}
	offset, length := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
	if offset+length > len(record) {
		return nil, false
	}
	return record[offset : offset+length : offset+length], true
}

func readTail(c *Column, record []byte) Value {
	text, ok := c.tail(record)
	if !ok {
		return Value{}
	}
	return Value{Kind: Text, Text: text}
}

func readArgs(c *Column, record []byte) Value {
	text, ok := c.tail(record)
	if !ok {
		return Value{}
	}
	return Value{Kind: List, Text: text}
}

func readSlots(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	return Value{Kind: Slots, Text: b, elem: c.field.Elem}
}

func readEnum(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	n, s := int64(number(b)), signed(b)
	c.scratch = c.scratch[:0]
	for i := range c.field.Values {
		if v := c.field.Values[i].Value; v == n || v == s {
			c.scratch = append(c.scratch, c.field.Values[i].Name...)
			return Value{Kind: Text, Text: c.scratch}
		}
	}
	c.scratch = strconv.AppendInt(c.scratch, s, 10)
	return Value{Kind: Text, Text: c.scratch}
}

func readIP(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	var addr netip.Addr
	switch binary.LittleEndian.Uint32(b) {
	case 2:
		addr = netip.AddrFrom4([4]byte(b[4:8]))
	case 10:
		addr = netip.AddrFrom16([16]byte(b[4:20]))
	default:
		return Value{}
	}
	c.scratch = addr.AppendTo(c.scratch[:0])
	return Value{Kind: Text, Text: c.scratch}
}
