// SPDX-License-Identifier: Apache-2.0

// Package unpack reads the containers in which kernels travel: compressed
// streams, ar and cpio archives, rpm packages. Everything is read once, from
// front to back, in bounded memory, and nothing is written.
//
// It knows formats, not kernels: which member of a package is wanted is
// pkg/btf/hub's business.
package unpack

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	xz "github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// Bounds of the memory that a stream's header may ask for, in bytes. They admit
// the strongest settings of the usual tools: xz -9 and zstd --ultra -22.
const (
	maxDictionary = 64 << 20
	maxWindow     = 128 << 20
)

// Format is how a stream is compressed.
type Format string

// The formats, and None for anything else.
const (
	None  Format = ""
	Gzip  Format = "gzip"
	Bzip2 Format = "bzip2"
	XZ    Format = "xz"
	LZMA  Format = "lzma"
	Zstd  Format = "zstd"
	LZ4   Format = "lz4"
)

// sniffLen is how many bytes Sniff wants to see.
const sniffLen = 13

// Sniff tells the format by a stream's first bytes, of which 13 suffice.
func Sniff(head []byte) Format {
	for _, f := range []struct {
		magic  string
		format Format
	}{
		{"\x1f\x8b\x08", Gzip},
		{"BZh", Bzip2},
		{"\xfd7zXZ\x00", XZ},
		{"\x28\xb5\x2f\xfd", Zstd},
		{"\x02\x21\x4c\x18", LZ4}, // the legacy frame, which the kernel's build uses
		{"\x04\x22\x4d\x18", LZ4},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return f.format
		}
	}
	if isLZMA(head) {
		return LZMA
	}
	return None
}

// isLZMA recognizes the old format, which has no magic number: the usual coder
// properties, a dictionary that is a power of two from 64 KiB on, and a size that
// is unknown or below 1 TiB.
func isLZMA(head []byte) bool {
	if len(head) < sniffLen || head[0] != 0x5d {
		return false
	}
	dictionary := binary.LittleEndian.Uint32(head[1:])
	size := binary.LittleEndian.Uint64(head[5:])
	return dictionary >= 1<<16 && dictionary&(dictionary-1) == 0 && (size == 1<<64-1 || size < 1<<40)
}

// Reader returns the decompressed stream and its format. A stream of no known
// format is returned as it is. More of r may be read than is needed. Closing
// releases memory; r stays open.
func Reader(r io.Reader) (io.ReadCloser, Format, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, err := buffered.Peek(sniffLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, None, err
	}
	format := Sniff(head)
	decoded, err := open(format, buffered, false)
	if err != nil {
		return nil, format, fmt.Errorf("%s: %w", format, err)
	}
	return decoded, format, nil
}

// open starts a decoder; with one it ends with the first stream where the format
// lets it.
func open(format Format, r io.Reader, one bool) (io.ReadCloser, error) {
	switch format {
	case Gzip:
		d, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		d.Multistream(!one)
		return d, nil
	case XZ:
		d, err := xz.NewReader(r, maxDictionary)
		if err != nil {
			return nil, err
		}
		d.Multistream(!one)
		return io.NopCloser(d), nil
	case LZMA:
		d, err := lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case LZ4:
		return io.NopCloser(lz4.NewReader(r)), nil
	default:
		return io.NopCloser(r), nil
	}
}

// First decompresses the stream that b begins with. Behind gzip and xz anything
// may follow, and is ignored: images are padded. At most limit bytes come out.
func First(b []byte, limit int64) ([]byte, Format, error) {
	format := Sniff(b)
	if format == None {
		return nil, None, fmt.Errorf("unknown compression: it begins with %q", b[:min(len(b), 8)])
	}
	r, err := open(format, bytes.NewReader(b), true)
	if err != nil {
		return nil, format, fmt.Errorf("%s: %w", format, err)
	}
	defer r.Close()
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, format, fmt.Errorf("%s: %w", format, err)
	}
	if int64(len(out)) > limit {
		return nil, format, fmt.Errorf("%s: more than %d bytes", format, limit)
	}
	return out, format, nil
}
