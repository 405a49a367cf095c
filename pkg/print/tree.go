// SPDX-License-Identifier: Apache-2.0

package print

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"nodegadget.dev/pkg/event"
)

// grammar is what tells JSON from YAML. Both are written as fixed bytes with
// values between them; a value is the same in both but for the escapes.
type grammar struct {
	style       style
	open, close string
	// appendKey writes the key of a member, with what separates it from the one
	// before unless it is the first of its object.
	appendKey func(dst, key []byte, depth int, first bool) []byte
	// value stands before a value, enter and leave around members of a nested object.
	value, enter, leave string
}

var jsonGrammar = grammar{style: json, open: "{", close: "}\n", enter: "{", leave: "}", appendKey: appendJSONKey}

func appendJSONKey(dst, key []byte, _ int, first bool) []byte {
	if !first {
		dst = append(dst, ',')
	}
	return append(appendQuoted(dst, key, json), ':')
}

// member is a key of an object, with a value or with members of its own.
type member struct {
	key     string
	choice  *choice
	members []*member
}

// maxDepth bounds the nesting of names. Gadgets have at most five levels.
const maxDepth = 16

// tree makes nested objects of names with dots. Members of one object come to
// stand together, where the first of them stands.
func tree(chosen []choice) (*member, error) {
	root := &member{}
	for _, name := range originNames {
		root.members = append(root.members, &member{key: name})
	}
	for i := range chosen {
		if err := root.add(&chosen[i]); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (m *member) add(c *choice) error {
	keys := strings.Split(c.name, ".")
	if len(keys) > maxDepth {
		return fmt.Errorf("field %.64q is nested more than %d deep", c.name, maxDepth)
	}
	for i, key := range keys {
		leaf := i == len(keys)-1
		inner := m.find(key)
		if inner != nil && (leaf || len(inner.members) == 0) {
			return fmt.Errorf("field %.64q has the name of another one", c.name)
		}
		if inner == nil {
			inner = &member{key: key}
			m.members = append(m.members, inner)
		}
		if leaf {
			inner.choice = c
		}
		m = inner
	}
	return nil
}

func (m *member) find(key string) *member {
	for _, inner := range m.members {
		if inner.key == key {
			return inner
		}
	}
	return nil
}

// fixed are bytes that every record has. Copying as many as there may be, mostly
// too many, is faster than copying as many as there are.
type fixed struct {
	bytes []byte
	room  [32]byte
}

func newFixed(b []byte) fixed {
	f := fixed{bytes: b}
	copy(f.room[:], b)
	return f
}

func (f *fixed) append(dst []byte) []byte {
	if len(f.bytes) > len(f.room) {
		return append(dst, f.bytes...)
	}
	from := len(dst)
	dst = slices.Grow(dst, len(f.room))[:from+len(f.room)]
	*(*[len(f.room)]byte)(dst[from:]) = f.room
	return dst[:from+len(f.bytes)]
}

// step is a value of an object, and the bytes between it and the one before.
type step struct {
	key    fixed
	column *event.Column
	// text is that of a target's origin, which stands where no column is.
	text   *[]byte
	origin int
	place  place
	signed bool
	log2   bool
	clock  clock
	// fixed steps depend on the record's bytes from from to to, and on nothing else.
	fixed    bool
	from, to int
}

// newStep makes the step of a choice, nil for a text of the record's own origin.
func newStep(before []byte, c *choice) step {
	if c == nil {
		return step{key: newFixed(before)}
	}
	if c.column == nil {
		return step{key: newFixed(before), origin: c.origin}
	}
	s := step{
		key: newFixed(before), column: c.column, log2: c.log2(),
		place: placeOf(c), signed: c.column.Kind == event.Int,
		clock: clock{layout: `"2006-01-02T15:04:05.`, location: time.UTC},
	}
	s.setRange(c.column)
	return s
}

// planner lays out the members of an object as steps.
type planner struct {
	*grammar
	pending []byte
	steps   []step
}

func (p *planner) plan(members []*member, depth int) {
	for i, m := range members {
		p.pending = p.appendKey(p.pending, []byte(m.key), depth, i == 0)
		if len(m.members) == 0 {
			p.pending = append(p.pending, p.value...)
			p.steps = append(p.steps, newStep(p.pending, m.choice))
			p.pending = nil
			continue
		}
		p.pending = append(p.pending, p.enter...)
		p.plan(m.members, depth+1)
		p.pending = append(p.pending, p.leave...)
	}
}
