// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"

	"nodegadget.dev/pkg/btf/hub/internal/unpack"
)

var errNoBTF = errors.New("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF); collect from the debug package's vmlinux instead")

// findImage finds the types in a kernel as distributions boot it.
func findImage(b []byte) (found, error) {
	image, err := unpackImage(b, maxImage)
	if err != nil {
		return found{}, err
	}
	raw := findBTF(image)
	if raw == nil {
		return found{}, errNoBTF
	}
	uname, err := banner(bytes.NewReader(image))
	if err != nil {
		return found{}, err
	}
	// A copy, so that the image can go.
	return found{raw: bytes.Clone(raw), source: "image", origin: origin{arch: imageArch(image), uname: uname}}, nil
}

// unpackImage returns the decompressed kernel: an ELF file or a flat Image, of at
// most limit bytes.
func unpackImage(b []byte, limit int64) ([]byte, error) {
	switch {
	case isELF(b), isFlatArm64(b):
		return b, nil
	case hasAt(b, 0x202, "HdrS"):
		return unpackBzImage(b, limit)
	case hasAt(b, 0, "MZ\x00\x00zimg"):
		return unpackZboot(b, limit)
	case unpack.Sniff(b) != unpack.None:
		image, _, err := unpack.First(b, limit)
		return image, err
	}
	return nil, fmt.Errorf("not a kernel: begins with %q, want a package, vmlinuz, Image, vmlinux or raw BTF", b[:min(len(b), 8)])
}

// unpackBzImage follows the x86 boot protocol, version 2.08 and later: behind
// the real-mode sectors lies the payload, and the payload ends with its
// uncompressed size.
func unpackBzImage(b []byte, limit int64) ([]byte, error) {
	const version = 0x206
	if len(b) < version+2 || binary.LittleEndian.Uint16(b[version:]) < 0x208 {
		return nil, errors.New("bzImage: boot protocol older than 2.08")
	}
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
	if unpack.Sniff(payload) != unpack.Gzip { // of gzip the size is a part
		payload = payload[:len(payload)-4]
	}
	if int64(size) > limit {
		return nil, fmt.Errorf("bzImage: unpacks to %d bytes, want at most %d", size, limit)
	}
	// Kernels whose ELF file has relocations appended are longer than promised.
	image, _, err := unpack.First(payload, limit)
	if err != nil {
		return nil, fmt.Errorf("bzImage: %w", err)
	}
	return image, nil
}

// unpackZboot reads the EFI self-extracting image that arm64 and others have.
func unpackZboot(b []byte, limit int64) ([]byte, error) {
	payload, err := section(b, 8, 0)
	if err != nil {
		return nil, fmt.Errorf("zboot image: %w", err)
	}
	image, _, err := unpack.First(payload, limit)
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

func isELF(b []byte) bool { return hasAt(b, 0, elf.ELFMAG) }

func isFlatArm64(b []byte) bool { return hasAt(b, 0x38, "ARM\x64") }

// imageArch returns the architecture of a decompressed kernel, or "".
func imageArch(image []byte) string {
	const machine = 18 // e_machine of the ELF header; both architectures are little-endian
	switch {
	case isFlatArm64(image):
		return "arm64"
	case isELF(image) && len(image) >= machine+2:
		return elfArch(elf.Machine(binary.LittleEndian.Uint16(image[machine:])))
	}
	return ""
}

func elfArch(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86_64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return ""
}

// linuxBanner is how every kernel introduces itself (linux_banner in
// init/version.c). The length is bounded so that a window of the file suffices.
var linuxBanner = regexp.MustCompile(`Linux version (\d[A-Za-z0-9._+~-]{0,95}) \(`)

const maxBanner = 128

// banner returns the kernel release that the first banner names, or "".
func banner(r io.Reader) (string, error) {
	window := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(r, window[len(window):cap(window)])
		window = window[:len(window)+n]
		if m := linuxBanner.FindSubmatch(window); m != nil {
			return string(m[1]), nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		tail := window[len(window)-maxBanner:]
		window = window[:copy(window, tail)]
	}
}
