// SPDX-License-Identifier: Apache-2.0

package print

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"time"

	"nodegadget.dev/pkg/event"
)

// place is where a record has a plain number. A Column can read it too, but
// most columns are numbers, and handing over a Value of six words takes longer
// than reading one of them.
type place struct{ offset, size int }

// placeOf is the place of a column that is a plain number, else one that no record has.
func placeOf(c *choice) place {
	if c.field == nil || c.column.Kind != event.Uint && c.column.Kind != event.Int {
		return place{}
	}
	return place{int(c.field.Offset), int(c.field.Size)}
}

// number reads the number, extended by zeros. It isn't there if the record was cut.
func (p place) number(record []byte) (n uint64, ok bool) {
	if p.size == 0 || p.offset+p.size > len(record) {
		return 0, false
	}
	b := record[p.offset:]
	switch p.size {
	case 8:
		return binary.LittleEndian.Uint64(b), true
	case 4:
		return uint64(binary.LittleEndian.Uint32(b)), true
	case 2:
		return uint64(binary.LittleEndian.Uint16(b)), true
	case 1:
		return uint64(b[0]), true
	}
	return 0, false
}

// signed is n with the sign of a number of the place's size.
func (p place) signed(n uint64) int64 {
	shift := 64 - 8*p.size
	return int64(n<<shift) >> shift
}

const pairs = "00010203040506070809101112131415161718192021222324" +
	"25262728293031323334353637383940414243444546474849" +
	"50515253545556575859606162636465666768697071727374" +
	"75767778798081828384858687888990919293949596979899"

var powersOfTen = [...]uint64{
	0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// appendUint is strconv.AppendUint for base 10, which is where printing spends
// most of its time: it counts the digits first and so needs no copy.
func appendUint(dst []byte, n uint64) []byte {
	if n < 10 {
		return append(dst, '0'+byte(n))
	}
	const log10of2 = 1233 // times 4096
	digits := bits.Len64(n) * log10of2 >> 12
	if n >= powersOfTen[digits] {
		digits++
	}
	end := len(dst) + digits
	dst = slices.Grow(dst, digits)[:end]
	for n >= 100 {
		rest := n % 100 * 2
		n /= 100
		dst[end-1], dst[end-2] = pairs[rest+1], pairs[rest]
		end -= 2
	}
	dst[end-1] = pairs[n*2+1]
	if n >= 10 {
		dst[end-2] = pairs[n*2]
	}
	return dst
}

func appendInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendUint(append(dst, '-'), -uint64(n))
	}
	return appendUint(dst, uint64(n))
}

// scale is one step of a unit.
type scale struct {
	size uint64
	name string
}

var (
	durations = []scale{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}, {1, "ns"}}
	byteSizes = []scale{
		{1 << 60, "EiB"},
		{1 << 50, "PiB"},
		{1 << 40, "TiB"},
		{1 << 30, "GiB"},
		{1 << 20, "MiB"},
		{1 << 10, "KiB"},
		{1, "B"},
	}
)

// appendScaled writes n in the largest unit that it fills. Digits are cut and not
// rounded, so that no value looks like one of the next unit.
func appendScaled(dst []byte, n uint64, scales []scale, digits int) []byte {
	unit := scales[len(scales)-1]
	for _, s := range scales {
		if n >= s.size {
			unit = s
			break
		}
	}
	whole, rest := n/unit.size, n%unit.size
	dst = appendUint(dst, whole)
	point := len(dst)
	for limit := uint64(1000); digits > 0 && whole*10 < limit && rest > 0; digits-- {
		rest *= 10
		if len(dst) == point {
			dst = append(dst, '.')
		}
		dst = append(dst, '0'+byte(rest/unit.size))
		rest %= unit.size
		limit /= 10
	}
	for len(dst) > point && (dst[len(dst)-1] == '0' || dst[len(dst)-1] == '.') {
		dst = dst[:len(dst)-1]
	}
	return append(dst, unit.name...)
}

// appendBytes writes 1.2KiB, 12.3KiB, 123KiB.
func appendBytes(dst []byte, n uint64) []byte { return appendScaled(dst, n, byteSizes, 1) }

// appendDuration writes 1.23ms, 12.3ms, 123ms, and from a minute on 2m5s, 3h7m, 2d4h.
func appendDuration(dst []byte, ns uint64) []byte {
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	seconds := ns / 1e9
	switch {
	case seconds < minute:
		return appendScaled(dst, ns, durations, 2)
	case seconds < hour:
		return appendPair(dst, seconds/minute, 'm', seconds%minute, 's')
	case seconds < day:
		return appendPair(dst, seconds/hour, 'h', seconds%hour/minute, 'm')
	}
	return appendPair(dst, seconds/day, 'd', seconds%day/hour, 'h')
}

func appendPair(dst []byte, a uint64, unit byte, b uint64, smaller byte) []byte {
	dst = append(appendUint(dst, a), unit)
	return append(appendUint(dst, b), smaller)
}

// clock formats times. It keeps the part that changes only with the second,
// which is what formatting spends its time on.
type clock struct {
	layout   string
	location *time.Location
	second   int64
	text     []byte
}

// append writes a time given in nanoseconds since the epoch with so many decimals.
func (c *clock) append(dst []byte, ns int64, decimals int) []byte {
	second, rest := ns/1e9, ns%1e9
	if rest < 0 {
		second, rest = second-1, rest+1e9
	}
	if second != c.second || len(c.text) == 0 {
		c.second = second
		c.text = time.Unix(second, 0).In(c.location).AppendFormat(c.text[:0], c.layout)
	}
	dst = append(dst, c.text...)
	for range 9 - decimals {
		rest /= 10
	}
	end := len(dst) + decimals
	dst = slices.Grow(dst, decimals)[:end]
	for ; decimals > 1; decimals -= 2 {
		pair := rest % 100 * 2
		rest /= 100
		dst[end-1], dst[end-2] = pairs[pair+1], pairs[pair]
		end -= 2
	}
	if decimals > 0 {
		dst[end-1] = '0' + byte(rest)
	}
	return dst
}
