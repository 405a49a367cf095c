// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// unpackImage turns a kernel as distributions ship it into what qemu boots
// without a boot loader: an ELF file on amd64, a flat Image on arm64. Leaving
// the decompression to the guest would cost seconds under emulation, and BTF can
// be found in a decompressed kernel only.
func unpackImage(ctx context.Context, b []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(b, []byte("\x7fELF")), hasAt(b, 0x38, "ARM\x64"):
		return b, nil
	case hasAt(b, 0x202, "HdrS"):
		return unpackBzImage(ctx, b)
	case bytes.HasPrefix(b, []byte("MZ\x00\x00zimg")):
		return unpackZboot(ctx, b)
	case bytes.HasPrefix(b, []byte(gzipMagic)):
		return decompress(ctx, b)
	default:
		return nil, errors.New("unknown kernel image format")
	}
}

// unpackBzImage follows the x86 boot protocol, version 2.08 and later: behind
// the real-mode sectors lies the payload, and the payload ends with its
// uncompressed size.
func unpackBzImage(ctx context.Context, b []byte) ([]byte, error) {
	sectors := int(b[0x1f1])
	if sectors == 0 {
		sectors = 4
	}
	payload, err := section(b, 0x248, (sectors+1)*512)
	if err != nil {
		return nil, fmt.Errorf("bzImage: %w", err)
	}
	if len(payload) < 4 {
		return nil, errors.New("bzImage: empty payload")
	}
	size := binary.LittleEndian.Uint32(payload[len(payload)-4:])
	if !bytes.HasPrefix(payload, []byte(gzipMagic)) { // of gzip the size is a part
		payload = payload[:len(payload)-4]
	}

	image, err := decompress(ctx, payload)
	if err != nil {
		return nil, fmt.Errorf("bzImage: %w", err)
	}
	if uint32(len(image)) != size {
		return nil, fmt.Errorf("bzImage: payload has %d bytes, the header promises %d", len(image), size)
	}
	return image, nil
}

// unpackZboot reads the EFI self-extracting image that arm64 and others have.
func unpackZboot(ctx context.Context, b []byte) ([]byte, error) {
	payload, err := section(b, 8, 0)
	if err != nil {
		return nil, fmt.Errorf("zboot image: %w", err)
	}
	image, err := decompress(ctx, payload)
	if err != nil {
		return nil, fmt.Errorf("zboot image: %w", err)
	}
	return image, nil
}

// section returns what the pair (offset, size) at pos points to, counted from
// base.
func section(b []byte, pos, base int) ([]byte, error) {
	if len(b) < pos+8 {
		return nil, io.ErrUnexpectedEOF
	}
	start := uint64(base) + uint64(binary.LittleEndian.Uint32(b[pos:]))
	end := start + uint64(binary.LittleEndian.Uint32(b[pos+4:]))
	if end > uint64(len(b)) {
		return nil, io.ErrUnexpectedEOF
	}
	return b[start:end], nil
}

func hasAt(b []byte, pos int, magic string) bool {
	return len(b) >= pos && bytes.HasPrefix(b[pos:], []byte(magic))
}

const gzipMagic = "\x1f\x8b"

// decompress tells the format by its magic number. Only gzip is in the standard
// library.
func decompress(ctx context.Context, b []byte) ([]byte, error) {
	for _, f := range []struct{ magic, pkg, name string }{
		{"\xfd7zXZ\x00", "xz-utils", "xz"},
		{"\x28\xb5\x2f\xfd", "zstd", "zstd"},
		{"\x02\x21\x4c\x18", "lz4", "lz4"}, // the legacy frame, which the kernel's build uses
	} {
		if !bytes.HasPrefix(b, []byte(f.magic)) {
			continue
		}
		cmd, err := command(ctx, f.pkg, f.name, "-d", "-c", "-q")
		if err != nil {
			return nil, err
		}
		cmd.Stdin = bytes.NewReader(b)
		return output(cmd)
	}

	if !bytes.HasPrefix(b, []byte(gzipMagic)) {
		return nil, errors.New("unknown compression")
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	r.Multistream(false) // padding may follow
	out, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return out, nil
}
