// SPDX-License-Identifier: Apache-2.0

package print

import (
	"bytes"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEscape(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"plain text, 'quoted' and \"double\"", "plain text, 'quoted' and \"double\""},
		{`C:\temp`, `C:\temp`},
		{"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"a\nb\rc\td\ae\x00", `a\nb\rc\td\x07e\x00`},
		{"\x7f", `\x7f`},
		{"\u0085\u009b", `\u0085\u009b`},
		{"\x85\xff\xc3", `\x85\xff\xc3`},
		{"exe\u202egnp\u2066\u200e\u061c", `exe\u202egnp\u2066\u200e\u061c`},
		{"a\u200d\u200bb\ufeff\u00ad\u2028\u2029", `a\u200d\u200bb\ufeff\u00ad\u2028\u2029`},
		{"\U000e0041\ufe0f\u3164\u115f\u034f", `\U000e0041\ufe0f\u3164\u115f\u034f`},
		{"\u00a0\u3000\ue000\uffff", `\u00a0\u3000\ue000\uffff`},
		{"žluťoučký 漢字 e\u0301 😀 �", "žluťoučký 漢字 e\u0301 😀 �"},
		{"\xed\xa0\x80", `\xed\xa0\x80`},
		{"long enough for a word, then \x1b", `long enough for a word, then \x1b`},
	} {
		require.Equal(t, test.want, Escape(test.text), "%q", test.text)
	}
}

func TestEscapeQuoted(t *testing.T) {
	for _, test := range []struct{ text, json, yaml string }{
		{``, `""`, `""`},
		{`a"b\c`, `"a\"b\\c"`, `"a\"b\\c"`},
		{"\x1b\n\r\t\x00\x7f\u009b", `"\u001b\n\r\t\u0000\u007f\u009b"`, `"\u001b\n\r\t\u0000\u007f\u009b"`},
		{"\xff\xc3", `"\ufffd\ufffd"`, `"\ufffd\ufffd"`},
		{"\u2028\u202e\ufeff", `"\u2028\u202e\ufeff"`, `"\u2028\u202e\ufeff"`},
		{"\U000e0041😀", `"\udb40\udc41😀"`, `"\U000e0041😀"`},
	} {
		require.Equal(t, test.json, string(appendQuoted(nil, []byte(test.text), json)), "%q", test.text)
		require.Equal(t, test.yaml, string(appendQuoted(nil, []byte(test.text), yaml)), "%q", test.text)
	}
}

// TestPlainPrefix compares looking at words with looking at bytes, for every byte
// at every place of a word, next to bytes that borrow from it or carry into it.
func TestPlainPrefix(t *testing.T) {
	plainByte := func(c byte, s style) bool {
		return c >= ' ' && c <= '~' && (s == shown || c != '"' && c != '\\')
	}
	for _, s := range []style{shown, json, yaml} {
		for _, filler := range []byte{'a', ' ', '!', '#', '[', ']', '~'} {
			for c := range 256 {
				for place := range 19 {
					text := bytes.Repeat([]byte{filler}, 19)
					text[place] = byte(c)
					want := len(text)
					if !plainByte(byte(c), s) {
						want = place
					}
					if got := plainPrefix(text, s); got != want {
						require.Equal(t, want, got, "%q in style %d", text, s)
					}
				}
			}
		}
	}
}

func TestDurationsAndBytes(t *testing.T) {
	for want, ns := range map[string]time.Duration{
		"0ns": 0, "1ns": 1, "999ns": 999, "1µs": 1000, "1.23µs": 1239, "12.3µs": 12345, "999µs": 999999,
		"1.05ms": 1050 * time.Microsecond, "4.5s": 4500 * time.Millisecond, "10s": 10050 * time.Millisecond,
		"59.9s": time.Minute - 1, "1m0s": time.Minute, "2m5s": 125 * time.Second, "3h7m": 187*time.Minute + time.Second,
		"2d4h": 52 * time.Hour, "106751d23h": math.MaxInt64,
	} {
		require.Equal(t, want, string(appendDuration(nil, uint64(ns))))
	}
	require.Equal(t, "213503d23h", string(appendDuration(nil, math.MaxUint64)))
	for want, n := range map[string]uint64{
		"0B": 0, "1023B": 1023, "1KiB": 1024, "1.2KiB": 1234, "12KiB": 12 << 10, "99.9KiB": 100<<10 - 1, "100KiB": 100<<10 + 1023,
		"1023KiB": 1<<20 - 1, "1.5GiB": 3 << 29, "15.9EiB": math.MaxUint64,
	} {
		require.Equal(t, want, string(appendBytes(nil, n)))
	}
}

func TestDecimal(t *testing.T) {
	numbers := []uint64{0, math.MaxUint64}
	for n := uint64(1); ; n *= 10 {
		numbers = append(numbers, n-1, n, n+1, n*9)
		if n == 1e19 {
			break
		}
	}
	for shift := range 64 {
		numbers = append(numbers, 1<<shift, 1<<shift-1)
	}
	for _, n := range numbers {
		require.Equal(t, strconv.FormatUint(n, 10), string(appendUint(nil, n)))
		require.Equal(t, strconv.FormatInt(int64(n), 10), string(appendInt(nil, int64(n))))
	}
}

func TestClock(t *testing.T) {
	utc := clock{layout: `2006-01-02T15:04:05.`, location: time.UTC}
	for _, at := range []int64{0, 1, -1, 999999999, 1e9, -1e9, -1e9 - 1, math.MaxInt64, math.MinInt64, 1793706600001234567, 1793706600999999999} {
		want := time.Unix(0, at).UTC().Format("2006-01-02T15:04:05.000000000")
		require.Equal(t, want, string(utc.append(nil, at, 9)))
	}
	india := clock{layout: "15:04:05.", location: time.FixedZone("IST", 19800)}
	require.Equal(t, "05:30:01.234", string(india.append(nil, 1234999999, 3)))
}

func TestSlotRange(t *testing.T) {
	for _, test := range []struct {
		slot      int
		low, high uint64
	}{
		{0, 0, 1},
		{1, 2, 3},
		{2, 4, 7},
		{31, 1 << 31, 1<<32 - 1},
		{62, 1 << 62, 1<<63 - 1},
		{63, 1 << 63, math.MaxUint64},
		{64, math.MaxUint64, math.MaxUint64},
		{4095, math.MaxUint64, math.MaxUint64},
	} {
		low, high := slotRange(test.slot)
		require.Equal(t, [2]uint64{test.low, test.high}, [2]uint64{low, high}, "slot %d", test.slot)
	}
}

func TestCellLimit(t *testing.T) {
	for _, test := range []struct {
		text  string
		limit int
		want  string
		used  int
	}{
		{"abc", -1, "abc", 3},
		{"abc", 3, "abc", 3},
		{"abcd", 3, "ab…", 3},
		{"abc", 1, "…", 1},
		{"a", 1, "a", 1},
		{"a", 0, "a", 1},
		{"漢字", 4, "漢字", 4},
		{"漢字x", 4, "漢…", 3},
		{"漢字", 3, "漢…", 3},
		{"漢字", 2, "…", 1},
		{"e\u0301e\u0301", 2, "e\u0301e\u0301", 2},
		{"e\u0301e\u0301x", 2, "e\u0301…", 2},
		{"a\x1bb", 6, `a\x1bb`, 6},
		{"a\x1bb", 5, `a…`, 2},
		{"abcdefghijklmnopq\x1b", 17, "abcdefghijklmnop…", 17},
	} {
		var c cell
		c.reset(test.limit)
		c.text([]byte(test.text))
		require.Equal(t, test.want, string(c.buf), "%q in %d", test.text, test.limit)
		require.Equal(t, test.used, c.used, "%q in %d", test.text, test.limit)
	}
}

func TestCellNumber(t *testing.T) {
	for limit, want := range map[int]string{-1: "1.23µs", 6: "1.23µs", 5: "1.23…", 1: "…"} {
		var c cell
		c.reset(limit)
		c.number(appendDuration(c.buf, 1234))
		require.Equal(t, want, string(c.buf))
	}
}
