// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"nodegadget.dev/pkg/btf/layout"
)

// chunkSize is how much goes into a chunk, in bytes. A larger one is smaller
// packed and takes longer to look something up in: 256 KiB take about 1 ms.
const chunkSize = 256 << 10

// Writer collects kernels. The zero value is empty.
type Writer struct {
	// Objects are what the contents were made for.
	Objects []Object

	kernels  map[layout.Kernel]int
	contents [][]byte
	numbers  map[[sha256.Size]byte]int
}

// Add takes a kernel's tailored BTF. Adding a kernel again replaces what it had.
func (w *Writer) Add(k layout.Kernel, raw []byte) error {
	if err := k.Validate(); err != nil {
		return err
	}
	if len(raw) < 2 || len(raw) > maxChunk-chunkSize {
		return fmt.Errorf("BTF of %s has %d bytes, want 2 to %d", k, len(raw), maxChunk-chunkSize)
	}
	if w.kernels == nil {
		w.kernels, w.numbers = make(map[layout.Kernel]int), make(map[[sha256.Size]byte]int)
	}
	sum := sha256.Sum256(raw)
	number, ok := w.numbers[sum]
	if !ok {
		number = len(w.contents)
		w.numbers[sum] = number
		w.contents = append(w.contents, slices.Clone(raw))
	}
	w.kernels[k] = number
	return nil
}

// Encode returns the file.
func (w *Writer) Encode() ([]byte, error) {
	x := index{objects: slices.Clone(w.Objects)}
	slices.SortFunc(x.objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Digest[:], b.Digest[:]))
	})
	parts := split(&x, w.arrange(&x))
	// One worker and one block after another, so that the bytes depend on the
	// contents only.
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, err
	}
	defer encoder.Close()

	var chunks, raw []byte
	for i, p := range parts {
		x.parts = append(x.parts, part{length: len(p)})
		if raw = append(raw, p...); len(raw) >= chunkSize || i == len(parts)-1 {
			packed := encoder.EncodeAll(raw, nil)
			x.chunks = append(x.chunks, chunk{packed: len(packed), raw: len(raw)})
			chunks, raw = append(chunks, packed...), raw[:0]
		}
	}
	packed := encoder.EncodeAll(x.encode(), nil)
	if int64(headerSize+len(packed)+len(chunks)) > maxFile {
		return nil, errors.New("the bundle would be too large")
	}
	return assemble(packed, chunks), nil
}

// split takes contents apart, and returns their different strings and then their
// different headers and types.
func split(x *index, contents [][]byte) [][]byte {
	var types, strings distinct
	for _, c := range contents {
		at := stringsAt(c)
		x.contents = append(x.contents, content{types: types.add(c[:at]), strings: strings.add(c[at:])})
	}
	for i := range x.contents {
		x.contents[i].types += len(strings.list)
	}
	return append(strings.list, types.list...)
}

// distinct numbers different pieces of bytes.
type distinct struct {
	list    [][]byte
	numbers map[string]int
}

func (d *distinct) add(b []byte) int {
	if d.numbers == nil {
		d.numbers = make(map[string]int)
	}
	n, ok := d.numbers[string(b)]
	if !ok {
		n = len(d.list)
		d.numbers[string(b)] = n
		d.list = append(d.list, b)
	}
	return n
}

// stringsAt is where the strings of raw BTF begin. What isn't BTF is cut before
// its last byte: there are always two parts.
func stringsAt(raw []byte) int {
	const fixed = 24
	at := len(raw) - 1
	if len(raw) < fixed {
		return at
	}
	var order binary.ByteOrder = binary.LittleEndian
	if raw[0] != 0x9f {
		order = binary.BigEndian
	}
	if begin := uint64(order.Uint32(raw[4:])) + uint64(order.Uint32(raw[16:])); begin >= fixed && begin < uint64(len(raw)) {
		return int(begin)
	}
	return at
}

// arrange sorts the kernels, numbers the contents in the order in which the
// kernels need them, and returns the contents.
func (w *Writer) arrange(x *index) [][]byte {
	for k := range w.kernels {
		x.kernels = append(x.kernels, entry{Kernel: k})
	}
	slices.SortFunc(x.kernels, func(a, b entry) int { return a.Compare(b.Kernel) })
	// Kernels of one age resemble each other most, whatever the distribution.
	order := make([]int, len(x.kernels))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return naturally(x.kernels[i].Uname, x.kernels[j].Uname) })
	var contents [][]byte
	numbers := make(map[int]int)
	for _, i := range order {
		old := w.kernels[x.kernels[i].Kernel]
		number, ok := numbers[old]
		if !ok {
			number = len(contents)
			numbers[old] = number
			contents = append(contents, w.contents[old])
		}
		x.kernels[i].content = number
	}
	return contents
}

// naturally compares texts with numbers in them: 5.4 comes before 5.10.
func naturally(a, b string) int {
	for a != "" && b != "" {
		n, m := digits(a), digits(b)
		if n > 0 && m > 0 {
			if c := cmp.Or(cmp.Compare(n, m), cmp.Compare(a[:n], b[:m])); c != 0 {
				return c
			}
			a, b = a[n:], b[m:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

func assemble(index, chunks []byte) []byte {
	out := make([]byte, 0, headerSize+len(index)+len(chunks))
	out = append(out, magic...)
	out = binary.LittleEndian.AppendUint32(out, Version)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(index)))
	out = append(out, make([]byte, sha256.Size)...)
	out = append(append(out, index...), chunks...)
	sum := sha256.Sum256(out[headerSize:])
	copy(out[headerSize-sha256.Size:], sum[:])
	return out
}
