// SPDX-License-Identifier: Apache-2.0

// Package bundle keeps the tailored BTF of many kernels in one file, small
// enough to be part of an image or a binary, and finds that of one kernel in it.
//
// A file is a header, an index and chunks:
//
//	magic, 8 bytes · version, u32 · length of the index, u32 · SHA-256 of all that follows, 32 bytes
//	index, a zstd frame: the objects served, the chunks, the parts in them, the kernels
//	chunks, zstd frames: the strings of BTF, then headers and types, similar ones together
//
// Numbers are little-endian. Each different part is stored once: many kernels
// have the same strings. The same kernels and contents give the same bytes, in
// whatever order they were added.
//
// It doesn't make BTF (pkg/btf/tailor) and doesn't know which kernel is running
// (pkg/btf/kernel).
package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// Version is that of the format. It changes when older readers would go wrong.
const Version = 1

// Bounds of what is believed of a file.
const (
	maxFile  = 1 << 30
	maxIndex = 64 << 20 // bytes, unpacked
	maxChunk = 16 << 20 // bytes, unpacked: one content at most
)

const (
	magic      = "NGBTFBDL"
	headerSize = len(magic) + 4 + 4 + sha256.Size
)

// ErrNotFound says that a bundle hasn't the BTF of a kernel.
var ErrNotFound = errors.New("not in the bundle")

// Bundle is an opened file. It is immutable and safe for concurrent use until it
// is closed.
type Bundle struct {
	data   []byte
	mapped bool
	index  index
}

// Is tells whether a file that begins with these bytes is a bundle.
func Is(header []byte) bool { return bytes.HasPrefix(header, []byte(magic)) }

// Open maps a file and checks it as a whole. Close it when done.
func Open(path string) (*Bundle, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening BTF bundle: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening BTF bundle: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxFile {
		return nil, fmt.Errorf("BTF bundle %s: want a file of 1 to %d bytes", path, maxFile)
	}
	data, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mapping BTF bundle %s: %w", path, err)
	}
	b, err := New(data)
	if err != nil {
		err = errors.Join(fmt.Errorf("BTF bundle %s: %w", path, err), unix.Munmap(data))
		return nil, err
	}
	b.mapped = true
	return b, nil
}

// New reads a bundle that is in memory, and keeps using the bytes.
func New(data []byte) (*Bundle, error) {
	if len(data) < headerSize || !Is(data) {
		return nil, errors.New("not a bundle: want a file made by btfgen build")
	}
	number := func(at int) uint32 { return binary.LittleEndian.Uint32(data[at:]) }
	if version := number(len(magic)); version != Version {
		return nil, fmt.Errorf("bundle of version %d, this reads version %d: make it again with btfgen of this version", version, Version)
	}
	body := data[headerSize:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[headerSize-sha256.Size:headerSize]) {
		return nil, errors.New("damaged or cut short: its checksum is wrong; make it or copy it again")
	}
	length := uint64(number(len(magic) + 4))
	if length > uint64(len(body)) {
		return nil, errors.New("the index is longer than the file")
	}
	raw, err := unpack(body[:length], maxIndex)
	if err != nil {
		return nil, fmt.Errorf("unpacking index: %w", err)
	}
	b := &Bundle{data: data}
	if b.index, err = parseIndex(raw, headerSize+int(length), len(data)); err != nil {
		return nil, fmt.Errorf("reading index: %w", err)
	}
	return b, nil
}

// Close unmaps the file. What Lookup returned stays valid.
func (b *Bundle) Close() error {
	data := b.data
	b.data = nil
	if !b.mapped {
		return nil
	}
	b.mapped = false
	return unix.Munmap(data)
}

// unpack decodes a zstd frame, which carries a checksum.
func unpack(frame []byte, limit uint64) ([]byte, error) {
	var header zstd.Header
	if err := header.Decode(frame); err != nil {
		return nil, err
	}
	if !header.HasFCS || header.FrameContentSize > limit {
		return nil, fmt.Errorf("frame of unknown size, or of more than %d bytes", limit)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(limit))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	return decoder.DecodeAll(frame, make([]byte, 0, header.FrameContentSize))
}

// Kernels lists the kernels, in the order of layout.Kernel.Compare.
func (b *Bundle) Kernels() []layout.Kernel {
	kernels := make([]layout.Kernel, len(b.index.kernels))
	for i, k := range b.index.kernels {
		kernels[i] = k.Kernel
	}
	return kernels
}

// Find lists the kernels with this architecture and release string, whatever the
// distribution.
func (b *Bundle) Find(arch, uname string) []layout.Kernel {
	var found []layout.Kernel
	for _, k := range b.index.kernels {
		if k.Arch == arch && k.Uname == uname {
			found = append(found, k.Kernel)
		}
	}
	return found
}

func (b *Bundle) find(k layout.Kernel) (int, bool) {
	return slices.BinarySearchFunc(b.index.kernels, k, func(e entry, k layout.Kernel) int { return e.Compare(k) })
}

// Same tells whether both kernels are there and have one content.
func (b *Bundle) Same(one, other layout.Kernel) bool {
	i, ok := b.find(one)
	j, also := b.find(other)
	return ok && also && b.index.kernels[i].content == b.index.kernels[j].content
}

// Lookup returns a kernel's tailored BTF, as raw BTF. The error is ErrNotFound
// if there is none.
func (b *Bundle) Lookup(k layout.Kernel) ([]byte, error) {
	i, ok := b.find(k)
	if !ok {
		return nil, fmt.Errorf("BTF of %s: %w", k, ErrNotFound)
	}
	c := b.index.contents[b.index.kernels[i].content]
	types, strings := b.index.parts[c.types], b.index.parts[c.strings]
	first, err := b.chunk(types.chunk)
	if err != nil {
		return nil, fmt.Errorf("unpacking BTF of %s: %w", k, err)
	}
	second := first // in small bundles there is one
	if strings.chunk != types.chunk {
		if second, err = b.chunk(strings.chunk); err != nil {
			return nil, fmt.Errorf("unpacking BTF of %s: %w", k, err)
		}
	}
	return slices.Concat(first[types.offset:types.offset+types.length], second[strings.offset:strings.offset+strings.length]), nil
}

// chunk unpacks one.
func (b *Bundle) chunk(number int) ([]byte, error) {
	c := b.index.chunks[number]
	raw, err := unpack(b.data[c.offset:c.offset+c.packed], maxChunk)
	if err != nil {
		return nil, err
	}
	if len(raw) != c.raw {
		return nil, fmt.Errorf("%d bytes, want %d", len(raw), c.raw)
	}
	return raw, nil
}

// Serves tells whether the bundle was made for an object that asks for this.
func (b *Bundle) Serves(d tailor.Digest) bool {
	return slices.ContainsFunc(b.index.objects, func(o Object) bool { return [digestSize]byte(o.Digest[:]) == [digestSize]byte(d[:]) })
}

// Object is one that the bundle was made for. Of a bundle that was read, the
// second half of the digest is zero.
type Object struct {
	Name   string
	Digest tailor.Digest
}

// Info describes a bundle.
type Info struct {
	Objects  []Object
	Kernels  int
	Contents int // different ones
	// Bytes of the file, of the contents in it, and of the contents as if each
	// kernel had its own.
	Size, Unpacked, Unshared int64
}

// Info says what is in the bundle.
func (b *Bundle) Info() Info {
	info := Info{
		Objects: slices.Clone(b.index.objects), Kernels: len(b.index.kernels), Contents: len(b.index.contents),
		Size: int64(len(b.data)),
	}
	for i := range b.index.contents {
		info.Unpacked += int64(b.index.length(i))
	}
	for _, k := range b.index.kernels {
		info.Unshared += int64(b.index.length(k.content))
	}
	return info
}

// Content tells how large a kernel's BTF is and which kernels share it: those
// with the same number have one content.
func (b *Bundle) Content(k layout.Kernel) (number, size int, ok bool) {
	i, ok := b.find(k)
	if !ok {
		return 0, 0, false
	}
	number = b.index.kernels[i].content
	return number, b.index.length(number), true
}
