// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// edge tells records that were made until now from later ones. Both functions are nil
// where records have no time of their own: rows of tables and snapshots.
func edge(header *wire.Header) (before, after func(record []byte) bool) {
	clock := clockOf(header)
	var now unix.Timespec
	if clock == nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return nil, nil
	}
	made := func(record []byte) uint64 {
		if len(record) < clock.Offset+8 {
			return 0
		}
		return binary.NativeEndian.Uint64(record[clock.Offset:])
	}
	limit := uint64(now.Nano())
	return func(record []byte) bool { return made(record) <= limit }, func(record []byte) bool { return made(record) > limit }
}

// clockOf says where a gadget's records have their time; nil if they have none.
func clockOf(header *wire.Header) *tape.Clock {
	offset, ok := header.TimeOffset()
	if !ok {
		return nil
	}
	return &tape.Clock{Offset: offset, Boot: header.GetBootTime()}
}
