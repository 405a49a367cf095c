// SPDX-License-Identifier: Apache-2.0

package enrich

import "encoding/binary"

// Identity is what a record tells of a process.
type Identity struct {
	// Cgroup is the offset of the cgroup's id, 8 bytes.
	Cgroup int
	// Parts are all that the record tells of the process, its cgroup included. They
	// are blanked where the run may see the record but not the process.
	Parts []Part
}

// Part is a piece of a record.
type Part struct {
	Offset, Size int
	// Tail says that the piece points to bytes in the record's tail: their offset
	// and length, 2 bytes each.
	Tail bool
}

// CgroupID reads the cgroup's id; a record that is too short has none, 0.
func (i *Identity) CgroupID(record []byte) uint64 {
	if i.Cgroup+8 > len(record) {
		return 0
	}
	return binary.NativeEndian.Uint64(record[i.Cgroup:])
}

// blank overwrites what the record tells of the process.
func (i *Identity) blank(record []byte) {
	for _, part := range i.Parts {
		bytes := within(record, part.Offset, part.Size)
		if part.Tail && len(bytes) >= 4 {
			clear(within(record, int(binary.NativeEndian.Uint16(bytes)), int(binary.NativeEndian.Uint16(bytes[2:]))))
		}
		clear(bytes)
	}
}

func within(record []byte, offset, size int) []byte {
	offset = min(offset, len(record))
	return record[offset:min(offset+size, len(record))]
}
