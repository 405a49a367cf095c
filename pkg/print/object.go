// SPDX-License-Identifier: Apache-2.0

package print

import (
	"math"
	"strconv"

	"nodegadget.dev/pkg/event"
)

// object writes records as JSON or YAML.
type object struct {
	style style
	// origins stand before the values of the origin, runs have those of the record.
	origins [len(originNames)][]byte
	runs    []run
	close   []byte
	cache   originCache
	// head is all up to the first run, for the origin in the cache.
	head []byte
}

func newObject(g *grammar, chosen []choice) (*object, error) {
	root, err := tree(chosen)
	if err != nil {
		return nil, err
	}
	p := planner{grammar: g, pending: []byte(g.open)}
	p.plan(root.members, 0)
	o := &object{style: g.style, close: append(p.pending, g.close...)}
	for i := range o.origins {
		o.origins[i] = p.steps[i].key.bytes
	}
	values := p.steps[len(originNames):]
	for i := range values {
		if values[i].column == nil {
			values[i].text = &o.cache.bytes[values[i].origin]
		}
	}
	o.runs = runs(values)
	o.makeHead()
	return o, nil
}

func (o *object) makeHead() {
	o.head = o.head[:0]
	for i, before := range o.origins {
		o.head = append(o.head, before...)
		o.head = appendQuoted(o.head, o.cache.bytes[i], o.style)
	}
}

func (o *object) append(dst []byte, origin, target *Origin, record []byte) []byte {
	if o.cache.update(origin, target) {
		o.makeHead()
	}
	dst = append(dst, o.head...)
	for i := range o.runs {
		dst = o.runs[i].append(dst, record, o.style)
	}
	return append(dst, o.close...)
}

func (s *step) append(dst, record []byte, style style) []byte {
	dst = s.key.append(dst)
	if s.text != nil {
		return appendQuoted(dst, *s.text, style)
	}
	n, ok := s.place.number(record)
	switch {
	case !ok:
		return s.appendValue(dst, record, style)
	case s.signed:
		return appendInt(dst, s.place.signed(n))
	}
	return appendUint(dst, n)
}

func (s *step) appendValue(dst, record []byte, style style) []byte {
	v := s.column.Value(record)
	switch v.Kind {
	case event.Int:
		return appendInt(dst, v.Int())
	case event.Uint:
		return appendUint(dst, v.Uint())
	case event.Bool:
		return strconv.AppendBool(dst, v.Uint() != 0)
	case event.Text:
		return appendQuoted(dst, v.Text, style)
	case event.List:
		return appendList(dst, v, style)
	case event.Time:
		return append(s.clock.append(dst, v.Int(), 9), `Z"`...)
	case event.Slots:
		return appendSlots(dst, v, s.log2)
	}
	return append(dst, "null"...)
}

func appendList(dst []byte, v event.Value, s style) []byte {
	dst = append(dst, '[')
	first := true
	for item := range v.Items() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendQuoted(dst, item, s)
	}
	return append(dst, ']')
}

// appendSlots writes the slots that counted something.
func appendSlots(dst []byte, v event.Value, log2 bool) []byte {
	dst = append(dst, '[')
	first := true
	for i := range v.Len() {
		count := v.Slot(i)
		if count == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		low, high := uint64(i), uint64(i)
		if log2 {
			low, high = slotRange(i)
		}
		dst = appendUint(append(dst, `{"low":`...), low)
		dst = appendUint(append(dst, `,"high":`...), high)
		dst = appendUint(append(dst, `,"count":`...), count)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// slotRange is the lowest and highest value that slot i of a log2 histogram
// counts. What doesn't fit into 64 bits is the highest number that does.
func slotRange(i int) (low, high uint64) {
	switch {
	case i == 0:
		return 0, 1
	case i < 63:
		return 1 << i, 1<<(i+1) - 1
	case i == 63:
		return 1 << 63, math.MaxUint64
	}
	return math.MaxUint64, math.MaxUint64
}
