// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// RPMMagic begins an rpm package.
const RPMMagic = "\xed\xab\xee\xdb"

// An rpm package is a lead that is only of historic interest, two headers
// (signatures, then metadata), and a compressed cpio archive.
const (
	rpmLead        = 96
	rpmHeaderMagic = "\x8e\xad\xe8\x01"
	rpmIndexEntry  = 16
	rpmString      = 6 // type of a value: NUL-terminated
	rpmI18NString  = 9 // several of them, of which the first is the one for locale C
)

// Bounds of a header: rpm's own are 65,535 entries and 256 MiB of data. Kernel
// debug packages have about 10 MiB.
const (
	maxRPMEntries = 1 << 16
	maxRPMData    = 64 << 20
)

// Tags of the metadata that tells a package's origin.
const (
	rpmName         = 1000
	rpmVersion      = 1001
	rpmRelease      = 1002
	rpmDistribution = 1010
	rpmVendor       = 1011
	rpmArch         = 1022
)

// RPM is a package's metadata, as far as it tells which kernel is inside.
type RPM struct {
	Name, Version, Release, Arch string
	Distribution, Vendor         string
}

// ReadRPM reads the headers and leaves r at the compressed payload. Signatures
// are not checked.
func ReadRPM(r io.Reader) (RPM, error) {
	lead := make([]byte, rpmLead)
	if _, err := io.ReadFull(r, lead); err != nil {
		return RPM{}, fmt.Errorf("rpm: %w", noEOF(err))
	}
	if !bytes.HasPrefix(lead, []byte(RPMMagic)) {
		return RPM{}, fmt.Errorf("rpm: begins with %q, want %q", lead[:4], RPMMagic)
	}
	size, err := readRPMHeader(r, nil)
	if err != nil {
		return RPM{}, fmt.Errorf("rpm: signatures: %w", err)
	}
	if _, err := io.CopyN(io.Discard, r, -size&7); err != nil { // padding
		return RPM{}, fmt.Errorf("rpm: %w", noEOF(err))
	}
	var p RPM
	_, err = readRPMHeader(r, map[uint32]*string{
		rpmName: &p.Name, rpmVersion: &p.Version, rpmRelease: &p.Release, rpmArch: &p.Arch,
		rpmDistribution: &p.Distribution, rpmVendor: &p.Vendor,
	})
	if err != nil {
		return RPM{}, fmt.Errorf("rpm: metadata: %w", err)
	}
	return p, nil
}

// readRPMHeader reads one header, stores the wanted strings, and returns how many
// bytes of data it has.
func readRPMHeader(r io.Reader, want map[uint32]*string) (int64, error) {
	var intro [16]byte
	if _, err := io.ReadFull(r, intro[:]); err != nil {
		return 0, noEOF(err)
	}
	if string(intro[:4]) != rpmHeaderMagic {
		return 0, fmt.Errorf("begins with %q, want %q", intro[:4], rpmHeaderMagic)
	}
	entries, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if entries > maxRPMEntries || size > maxRPMData {
		return 0, fmt.Errorf("%d entries and %d bytes, want at most %d and %d", entries, size, maxRPMEntries, maxRPMData)
	}
	index := make([]byte, entries*rpmIndexEntry)
	if _, err := io.ReadFull(r, index); err != nil {
		return 0, noEOF(err)
	}
	if len(want) == 0 {
		_, err := io.CopyN(io.Discard, r, int64(size))
		return int64(size), noEOF(err)
	}
	// Grows with what really comes, not with what the header promises.
	data, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err == nil && len(data) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, err
	}
	for ; len(index) > 0; index = index[rpmIndexEntry:] {
		tag, kind := binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:])
		if value := want[tag]; value != nil && (kind == rpmString || kind == rpmI18NString) {
			*value = cString(data, binary.BigEndian.Uint32(index[8:]))
		}
	}
	return int64(size), nil
}

// cString returns the string at an offset, at most 256 bytes of it.
func cString(data []byte, offset uint32) string {
	if uint64(offset) >= uint64(len(data)) {
		return ""
	}
	value, _, _ := bytes.Cut(data[offset:], []byte{0})
	return string(value[:min(len(value), 256)])
}
