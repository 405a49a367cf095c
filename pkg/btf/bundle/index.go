// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/binary"
	"errors"
	"fmt"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// index is what is known of a bundle without unpacking its chunks. As bytes it
// is a sequence of unsigned varints and of texts, each preceded by the length
// that it shares with the text before and the length of the rest.
type index struct {
	objects  []Object
	chunks   []chunk
	contents []content
	kernels  []entry // sorted
}

// chunk is a zstd frame of the file.
type chunk struct {
	offset, packed int // in the file
	raw            int // bytes unpacked
}

// content is a part of an unpacked chunk.
type content struct{ chunk, offset, length int }

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
		e.out = append(e.out, o.Digest[:]...)
	}
	e.number(len(x.chunks))
	for _, c := range x.chunks {
		e.number(c.packed)
		e.number(c.raw)
	}
	// Contents fill the chunks one after another.
	e.number(len(x.contents))
	for _, c := range x.contents {
		e.number(c.length)
	}
	e.number(len(x.kernels))
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
	x.objects = make([]Object, d.count(2+len(tailor.Digest{})))
	for i := range x.objects {
		x.objects[i].Name = d.text()
		copy(x.objects[i].Digest[:], d.bytes(len(tailor.Digest{})))
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
	x.contents = make([]content, d.count(1))
	if err := x.place(&d); err != nil {
		return index{}, err
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

// place fills the chunks with contents.
func (x *index) place(d *decoder) error {
	n, offset := 0, 0
	for i := range x.contents {
		for n < len(x.chunks) && offset == x.chunks[n].raw {
			n, offset = n+1, 0
		}
		length := d.number(maxChunk)
		if d.err != nil {
			return d.err
		}
		if length == 0 || n == len(x.chunks) || offset+length > x.chunks[n].raw {
			return fmt.Errorf("content %d is outside the chunks", i)
		}
		x.contents[i] = content{n, offset, length}
		offset += length
	}
	return nil
}

func (x *index) name(d *decoder) error {
	for i := range x.kernels {
		text := d.text()
		if d.err != nil {
			return d.err
		}
		k, err := layout.Parse(text)
		if err != nil {
			return fmt.Errorf("kernel %d: %w", i, err)
		}
		if k.String() != text || i > 0 && x.kernels[i-1].Compare(k) >= 0 {
			return fmt.Errorf("kernel %d, %.100q, is out of order", i, text)
		}
		x.kernels[i].Kernel = k
	}
	return nil
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
