// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Spec is all that is known of a gadget without a kernel. It is plain data: it
// can be compared, printed and sent to a client that has never heard of the gadget.
type Spec struct {
	// Name is the gadget's folder name, <verb>_<noun>.
	Name string
	// Description says in one sentence what the gadget shows.
	Description string
	// Source is where its records come from and how they are laid out.
	Source Source
	// Params are sorted by name.
	Params []Param
	// Groups are sorted by name. One alternative of each is attached.
	Groups []Group
}

// Verb is the first word of the gadget's command: "trace" of "trace_exec".
func (s *Spec) Verb() string {
	verb, _, _ := strings.Cut(s.Name, "_")
	return verb
}

// Noun is the second word of the gadget's command: "exec" of "trace_exec".
func (s *Spec) Noun() string {
	_, noun, _ := strings.Cut(s.Name, "_")
	return noun
}

// Param returns the parameter of the given name.
func (s *Spec) Param(name string) (Param, bool) {
	for _, p := range s.Params {
		if p.Name == name {
			return p, true
		}
	}
	return Param{}, false
}

// CheckNames says whether gadget, parameters and fields have names that a
// command, flags and columns can have. What Parse returns has; a peer's may not.
func (s *Spec) CheckNames() error {
	if !namePattern.MatchString(s.Name) {
		return fmt.Errorf("gadget name %.64q is not of the form verb_noun", s.Name)
	}
	for _, p := range s.Params {
		if !paramPattern.MatchString(p.Name) {
			return fmt.Errorf("parameter name %.64q is not lower case with hyphens", p.Name)
		}
	}
	for _, f := range s.Source.Fields {
		for part := range strings.SplitSeq(f.Name, ".") {
			if !fieldPattern.MatchString(part) {
				return fmt.Errorf("field name %.64q is not lower case with underscores", f.Name)
			}
		}
	}
	return nil
}

// CheckParams says whether params, values by flag name, are valid for the gadget.
func (s *Spec) CheckParams(params map[string]string) error {
	for _, name := range sortedKeys(params) {
		param, ok := s.Param(name)
		if !ok {
			return fmt.Errorf("gadget %s has no parameter %q", s.Name, name)
		}
		if _, err := param.Encode(params[name], binary.LittleEndian); err != nil {
			return err
		}
	}
	return nil
}

// CheckAlternatives says whether the gadget has the alternatives (values) that
// are demanded for its groups (keys).
func (s *Spec) CheckAlternatives(demanded map[string]string) error {
	var known []string
	for _, group := range s.Groups {
		for _, a := range group.Alternatives {
			known = append(known, group.Name+"="+a.Name)
		}
	}
	for _, group := range sortedKeys(demanded) {
		if choice := group + "=" + demanded[group]; !slices.Contains(known, choice) {
			return fmt.Errorf("--alternative %.64q is not known, known are: %s", choice, strings.Join(known, ", "))
		}
	}
	return nil
}

// SourceKind says how records come about.
type SourceKind uint8

// The kinds of sources; see gadgets/include/gadget.h.
const (
	// Events are written to a buffer as they happen.
	Events SourceKind = iota + 1
	// Table is a map that programs add to; it is read and emptied every interval.
	Table
	// Snapshot is what an iterator program writes when it is read.
	Snapshot
)

var sourceKinds = map[SourceKind]string{Events: "events", Table: "table", Snapshot: "snapshot"}

// String is the word that the object's tag uses.
func (k SourceKind) String() string { return sourceKinds[k] }

// Source is a gadget's only source of records.
type Source struct {
	Kind SourceKind
	// Map is the map of the object that carries the source.
	Map string
	// Size is the length in bytes of a record without its tail. The record of a
	// table is the key, padded to a multiple of 8, and then the value.
	Size uint32
	// KeySize is the length in bytes of a table's unpadded key, 0 elsewhere.
	KeySize uint32
	// Fields are in the order of the C struct.
	Fields []Field
}

// Kind is the machine representation of a field.
type Kind uint8

// The representations that a field may have.
const (
	// Uint is an unsigned integer of 1, 2, 4 or 8 bytes.
	Uint Kind = iota + 1
	// Int is a signed integer of 1, 2, 4 or 8 bytes.
	Int
	// Bool is one byte.
	Bool
	// String is a char array, ended by a zero byte or its size.
	String
	// Tail is a struct gadget_bytes: offset and length (u16 each) of bytes in the record's tail.
	Tail
	// Enum is an integer whose values have names.
	Enum
	// IP is a struct gadget_ip: family (u32: 2 or 10) and 16 address bytes.
	IP
	// Slots is an array of unsigned integers.
	Slots
)

var kinds = map[Kind]string{
	Uint: "uint", Int: "int", Bool: "bool", String: "string", Tail: "bytes", Enum: "enum", IP: "ip", Slots: "slots",
}

// String names the kind as inspect shows it.
func (k Kind) String() string { return kinds[k] }

// Semantic is a meaning beyond the machine representation; it decides how a value is shown.
type Semantic string

// The meanings that gadget.h's GADGET_TYPE knows.
const (
	Timestamp Semantic = "timestamp"  // nanoseconds since boot (CLOCK_BOOTTIME)
	Duration  Semantic = "duration"   // nanoseconds
	ByteCount Semantic = "bytes"      // bytes
	Errno     Semantic = "errno"      // positive error number, 0 for success
	Signal    Semantic = "signal"     // signal number
	Syscall   Semantic = "syscall"    // system call number of the node's architecture
	OpenFlags Semantic = "open_flags" // O_* of open(2), node's architecture
	Mode      Semantic = "mode"       // permission bits
	Cgroup    Semantic = "cgroup"     // id of a cgroup: identity
	MountNS   Semantic = "mntns"      // mount namespace inode: identity
	Args      Semantic = "args"       // NUL-separated strings
	Log2      Semantic = "log2"       // slot i counts values in [2^i, 2^(i+1))
)

// semanticKinds says which representations a meaning goes with.
var semanticKinds = map[Semantic][]Kind{
	Timestamp: {Uint}, Duration: {Uint}, ByteCount: {Uint}, Errno: {Uint, Int}, Signal: {Uint, Int},
	Syscall: {Uint, Int}, OpenFlags: {Uint}, Mode: {Uint}, Cgroup: {Uint}, MountNS: {Uint},
	Args: {Tail}, Log2: {Slots},
}

// Field is a member of the record.
type Field struct {
	// Name is the C member's name; a nested struct's member is "outer.inner".
	Name string
	// Doc says what the field means.
	Doc string
	// Offset is counted in bytes from the record's start.
	Offset uint32
	// Size is in bytes: of the whole array for String and Slots.
	Size uint32
	Kind Kind
	// Elem is the size in bytes of one slot, 0 for other kinds.
	Elem     uint32
	Semantic Semantic
	// Width is the number of terminal columns the author asked for, 0 for none.
	Width int
	// Hidden fields are left out of the default columns.
	Hidden bool
	// Values are the names of an Enum.
	Values []EnumValue
}

// EnumValue is one named value of an Enum field or parameter.
type EnumValue struct {
	Name  string
	Value int64
}

// Group is a set of alternatives of which one is attached.
type Group struct {
	Name string
	// Alternatives are sorted by rank: the first that works is taken.
	Alternatives []Alternative
}

// Optional says whether the gadget works without any program of the group.
func (g *Group) Optional() bool {
	for _, a := range g.Alternatives {
		for _, p := range a.Programs {
			if !p.Optional {
				return false
			}
		}
	}
	return true
}

// Alternative is a set of programs that are attached together.
type Alternative struct {
	Name string
	Rank int
	// Programs are sorted by name.
	Programs []Program
}

// Program is an eBPF program and the hook it is for.
type Program struct {
	// Name is the C function's.
	Name string
	// Section is the ELF section, "tp_btf/sys_exit": kind of hook and target.
	Section string
	// Optional programs may fail to attach.
	Optional bool
	// When names the boolean parameter without which the program isn't loaded, or is empty.
	When string
	// Helpers are the kernel's helper functions that the program calls, by the
	// name that they have in include/uapi/linux/bpf.h, sorted.
	Helpers []string
}

// Hook is the kind of hook: the section up to its first slash.
func (p Program) Hook() string {
	hook, _, _ := strings.Cut(p.Section, "/")
	return hook
}

// Target is what the hook is attached to: the section after its first slash.
func (p Program) Target() string {
	_, target, _ := strings.Cut(p.Section, "/")
	return target
}
