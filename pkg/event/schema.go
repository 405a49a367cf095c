// SPDX-License-Identifier: Apache-2.0

package event

import (
	"fmt"
	"strings"
	"time"

	"nodegadget.dev/pkg/gadget"
)

// Options say where records come from.
type Options struct {
	// Arch is the node's architecture, "x86_64" or "arm64": it decides the names
	// of system calls and open flags. Empty means x86_64.
	Arch string
	// BootTime is the node's wall clock when its CLOCK_BOOTTIME was zero.
	BootTime time.Time
}

// Schema knows how to read the records of one source. It isn't safe for
// concurrent use: columns keep scratch space, so that reading doesn't allocate.
type Schema struct {
	// Source is what the schema was made from.
	Source gadget.Source
	// Columns are in the order of the fields; a readable twin follows its raw column.
	Columns []*Column
}

// Column is one readable value of a record.
type Column struct {
	// Name is the field's name, or that of its twin.
	Name string
	// Doc says what the value means.
	Doc string
	// Kind is the kind of every Value of the column that isn't Null.
	Kind ValueKind
	// Semantic is the field's.
	Semantic gadget.Semantic
	// Width is the number of terminal columns to begin with; at least len(Name).
	Width int
	// Hidden columns are shown only when asked for.
	Hidden bool
	// Raw columns have a readable twin, which is shown to people instead.
	Raw bool
	// Right-aligned columns hold numbers.
	Right bool

	field   *gadget.Field
	read    func(c *Column, record []byte) Value
	arch    string
	boot    int64
	scratch []byte
}

// twin is the readable companion of a raw number.
type twin struct {
	name  func(field string) string
	doc   string
	width int
	read  func(c *Column, record []byte) Value
}

// twins lists the meanings whose raw value isn't readable.
var twins = map[gadget.Semantic]twin{
	gadget.Errno: {
		name: func(f string) string { return strings.TrimSuffix(f, "errno") + "error" },
		doc:  "name of the error", width: 8, read: readErrno,
	},
	gadget.Signal:    {name: suffixed("_name"), doc: "name of the signal", width: 10, read: readSignal},
	gadget.Syscall:   {name: suffixed("_name"), doc: "name of the system call", width: 16, read: readSyscall},
	gadget.OpenFlags: {name: suffixed("_names"), doc: "flags by name", width: 22, read: readOpenFlags},
	gadget.Mode:      {name: suffixed("_octal"), doc: "permissions in octal", width: 5, read: readMode},
}

func suffixed(suffix string) func(string) string {
	return func(field string) string { return field + suffix }
}

// NewSchema makes the schema of source.
func NewSchema(source gadget.Source, opts Options) *Schema {
	s := &Schema{Source: source}
	for i := range source.Fields {
		field := &source.Fields[i]
		c := &Column{
			Name: field.Name, Doc: field.Doc, Semantic: field.Semantic, Hidden: field.Hidden,
			field: field, arch: opts.Arch, boot: opts.BootTime.UnixNano(),
		}
		if opts.BootTime.IsZero() {
			c.boot = 0
		}
		c.Kind, c.read = reader(field)
		c.Right = c.Kind == Uint || c.Kind == Int
		c.Width = max(field.Width, len(field.Name), defaultWidth(c))
		s.Columns = append(s.Columns, c)
		if t, ok := twins[field.Semantic]; ok {
			c.Raw = true
			readable := *c
			readable.Name, readable.Doc, readable.Kind, readable.read = t.name(field.Name), t.doc, Text, t.read
			readable.Raw, readable.Right = false, false
			readable.Width = max(field.Width, len(readable.Name), t.width)
			s.Columns = append(s.Columns, &readable)
		}
	}
	return s
}

func defaultWidth(c *Column) int {
	switch {
	case c.field.Width > 0:
		return 0
	case c.Kind == Time:
		return len("15:04:05.000")
	case c.field.Kind == gadget.IP:
		return 15
	case c.field.Kind == gadget.String:
		return min(int(c.field.Size), 32)
	case c.field.Kind == gadget.Tail:
		return 30
	}
	return 8
}

// Place is where a record has what the column's value is made from, in bytes; ok
// is false if that is in the tail.
func (c *Column) Place() (offset, size int, ok bool) {
	return int(c.field.Offset), int(c.field.Size), c.field.Kind != gadget.Tail
}

// Column returns the column of the given name.
func (s *Schema) Column(name string) (*Column, error) {
	for _, c := range s.Columns {
		if c.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("unknown field %q, known are: %s", name, strings.Join(s.Names(), ", "))
}

// Names lists the columns.
func (s *Schema) Names() []string {
	names := make([]string, 0, len(s.Columns))
	for _, c := range s.Columns {
		names = append(names, c.Name)
	}
	return names
}
