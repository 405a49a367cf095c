// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"nodegadget.dev/pkg/btf/layout"
)

// digestSize is how much of an object's digest is kept. It tells objects apart
// that were not made to be mixed up; who makes the bundle is trusted anyway.
const digestSize = 8

// index is what is known of a bundle without unpacking its chunks. As bytes it
// is a sequence of unsigned varints and of texts, each preceded by the length
// that it shares with the text before and the length of the rest.
type index struct {
	objects  []Object
	chunks   []chunk
	parts    []part
	contents []content
	kernels  []entry // sorted
}

// chunk is a zstd frame of the file.
type chunk struct {
	offset, packed int // in the file
	raw            int // bytes unpacked
}

// part is a piece of an unpacked chunk.
type part struct{ chunk, offset, length int }

// content is a part for the types and one for the strings, by their numbers.
type content struct{ types, strings int }

// entry is a kernel and the number of its content.
type entry struct {
	layout.Kernel
	content int
}

func (x *index) encode() []byte {
	var e encoder
	e.number(len(x.objects))
	for _, o := range x.objects {
		e.text(o.Name)
		e.out = append(e.out, o.Digest[:digestSize]...)
	}
	e.number(len(x.chunks))
	for _, c := range x.chunks {
		e.number(c.packed)
		e.number(c.raw)
	}
	// Parts fill the chunks one after another.
	e.number(len(x.parts))
	for _, p := range x.parts {
		e.number(p.length)
	}
	e.number(len(x.contents))
	// Things are numbered as they come up, so most are the next one: zero.
	next := 0
	for _, c := range x.contents {
		next = e.recent(c.strings, next)
	}
	for _, c := range x.contents {
		next = e.recent(c.types, next)
	}
	e.number(len(x.kernels))
	e.last = ""
	for _, k := range x.kernels {
		e.text(k.String())
	}
	for _, k := range x.kernels {
		e.number(k.content)
	}
	return e.out
}

type encoder struct {
	out  []byte
	last string
}

func (e *encoder) number(n int) { e.out = binary.AppendUvarint(e.out, uint64(n)) }

// recent writes a number that is next or an earlier one, and returns what is
// next then.
func (e *encoder) recent(n, next int) int {
	e.number(next - n)
	return max(next, n+1)
}

func (e *encoder) text(s string) {
	shared := 0
	for shared < min(len(s), len(e.last)) && s[shared] == e.last[shared] {
		shared++
	}
	e.number(shared)
	e.number(len(s) - shared)
	e.out = append(e.out, s[shared:]...)
	e.last = s
}

// parseIndex checks everything that a lookup relies on. The chunks begin at
// first and end where the file does.
func parseIndex(raw []byte, first, size int) (index, error) {
	d := decoder{in: raw}
	var x index
	x.objects = make([]Object, d.count(2+digestSize))
	for i := range x.objects {
		x.objects[i].Name = d.text()
		copy(x.objects[i].Digest[:], d.bytes(digestSize))
	}
	x.chunks = make([]chunk, d.count(2))
	at := first
	for i := range x.chunks {
		x.chunks[i] = chunk{offset: at, packed: d.number(size - at), raw: d.number(maxChunk)}
		at += x.chunks[i].packed
	}
	if d.err == nil && at != size {
		return index{}, fmt.Errorf("chunks end at %d of %d bytes", at, size)
	}
	x.parts = make([]part, d.count(1))
	if err := x.place(&d); err != nil {
		return index{}, err
	}
	x.contents = make([]content, d.count(2))
	next := 0
	for i := range x.contents {
		x.contents[i].strings = d.recent(&next, len(x.parts))
	}
	for i := range x.contents {
		x.contents[i].types = d.recent(&next, len(x.parts))
	}
	x.kernels = make([]entry, d.count(3))
	if err := x.name(&d); err != nil {
		return index{}, err
	}
	for i := range x.kernels {
		x.kernels[i].content = d.number(len(x.contents) - 1)
	}
	if d.err == nil && len(d.in) > 0 {
		return index{}, errors.New("bytes are left over")
	}
	return x, d.err
}

// place fills the chunks with parts.
func (x *index) place(d *decoder) error {
	n, offset := 0, 0
	for i := range x.parts {
		for n < len(x.chunks) && offset == x.chunks[n].raw {
			n, offset = n+1, 0
		}
		length := d.number(maxChunk)
		if d.err != nil {
			return d.err
		}
		if length == 0 || n == len(x.chunks) || offset+length > x.chunks[n].raw {
			return fmt.Errorf("part %d is outside the chunks", i)
		}
		x.parts[i] = part{n, offset, length}
		offset += length
	}
	return nil
}

// name reads the kernels' names, all into one string: there may be thousands, of
// which one is wanted.
func (x *index) name(d *decoder) error {
	var buffer []byte
	ends := make([]int, len(x.kernels))
	begin := 0
	for i := range ends {
		shared := d.number(len(buffer) - begin)
		rest := d.bytes(d.number(len(d.in)))
		if d.err != nil {
			return d.err
		}
		last := begin
		begin = len(buffer)
		buffer = append(append(buffer, buffer[last:last+shared]...), rest...)
		ends[i] = len(buffer)
	}
	names := string(buffer)
	begin = 0
	for i, end := range ends {
		k, err := parseName(names[begin:end])
		if err != nil {
			return fmt.Errorf("kernel %d: %w", i, err)
		}
		if i > 0 && x.kernels[i-1].Compare(k) >= 0 {
			return fmt.Errorf("kernel %d, %s, is out of order", i, k)
		}
		x.kernels[i].Kernel = k
		begin = end
	}
	return nil
}

// parseName is layout.Parse for what String wrote, without taking memory.
func parseName(name string) (k layout.Kernel, err error) {
	k.Distro, name, _ = strings.Cut(name, "/")
	k.Release, name, _ = strings.Cut(name, "/")
	k.Arch, k.Uname, _ = strings.Cut(name, "/")
	return k, k.Validate()
}

// length of a content, in bytes.
func (x *index) length(number int) int {
	c := x.contents[number]
	return x.parts[c.types].length + x.parts[c.strings].length
}

// decoder reads what encoder wrote. After an error it returns zeros.
type decoder struct {
	in   []byte
	last string
	err  error
}

func (d *decoder) fail() { d.in, d.err = nil, errors.New("cut short or out of range") }

func (d *decoder) number(limit int) int {
	n, size := binary.Uvarint(d.in)
	if d.err != nil || size <= 0 || limit < 0 || n > uint64(limit) {
		d.fail()
		return 0
	}
	d.in = d.in[size:]
	return int(n)
}

// recent reads what encoder.recent wrote; the number is below limit.
func (d *decoder) recent(next *int, limit int) int {
	n := *next - d.number(*next)
	if n >= limit {
		d.fail()
		return 0
	}
	*next = max(*next, n+1)
	return n
}

// count reads how many things of at least some bytes follow.
func (d *decoder) count(bytes int) int { return d.number(len(d.in) / bytes) }

func (d *decoder) bytes(n int) []byte {
	if n > len(d.in) {
		d.fail()
		return nil
	}
	b := d.in[:n]
	d.in = d.in[n:]
	return b
}

func (d *decoder) text() string {
	shared := d.number(len(d.last))
	rest := d.bytes(d.number(len(d.in)))
	if d.err != nil {
		return ""
	}
	d.last = d.last[:shared] + string(rest)
	return d.last
}
