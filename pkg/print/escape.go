// SPDX-License-Identifier: Apache-2.0

package print

import (
	"encoding/binary"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// style is the notation of what can't be written as it is.
type style uint8

const (
	// shown is for people: \n, \x1b, \u202e, \U000e0001; \xff for a byte that isn't
	// UTF-8. A backslash stays one, so that paths can be read and copied: a text
	// that contains `\n` looks like one with a line feed. Where that matters, JSON
	// is the answer.
	shown style = iota
	// json is the inside of a JSON string. A byte that isn't UTF-8 becomes U+FFFD.
	json
	// yaml is the inside of a double-quoted YAML scalar: as json, but YAML knows no
	// surrogate pairs.
	yaml
)

// Escape makes text from a traced process, a node or a user's gadget safe to
// show on a terminal and in a log line. It is what columns use.
func Escape(text string) string {
	b := []byte(text)
	if plainPrefix(b, shown) == len(b) {
		return text
	}
	return string(appendEscaped(nil, b, shown))
}

// EscapeLines is Escape for a text of several lines, such as an agent's error with
// the verifier's log. Tabs become spaces.
func EscapeLines(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\t", "    "), "\n")
	for i := range lines {
		lines[i] = Escape(lines[i])
	}
	return strings.Join(lines, "\n")
}

func appendEscaped(dst, text []byte, s style) []byte {
	for {
		n := plainPrefix(text, s)
		dst = append(dst, text[:n]...)
		if n == len(text) {
			return dst
		}
		var size int
		dst, size, _ = appendRune(dst, text[n:], s)
		text = text[n+size:]
	}
}

func appendQuoted(dst, text []byte, s style) []byte {
	dst = append(dst, '"')
	n := plainPrefix(text, s)
	dst = append(dst, text[:n]...)
	if n < len(text) {
		dst = appendEscaped(dst, text[n:], s)
	}
	return append(dst, '"')
}

// plainPrefix is the number of leading bytes that are the same in the style:
// printable ASCII, less what has to be escaped between quotes.
func plainPrefix(text []byte, s style) int {
	i := 0
	for ; i+8 <= len(text); i += 8 {
		if !plainWord(binary.LittleEndian.Uint64(text[i:]), s) {
			return i + plainBytes(text[i:], s)
		}
	}
	if i == len(text) || len(text) >= 4 && plainWord(lastWord(text), s) {
		return len(text)
	}
	return i + plainBytes(text[i:], s)
}

// lastWord is the last eight of a text's bytes, or its first and last four.
func lastWord(text []byte) uint64 {
	if len(text) >= 8 {
		return binary.LittleEndian.Uint64(text[len(text)-8:])
	}
	first, last := binary.LittleEndian.Uint32(text), binary.LittleEndian.Uint32(text[len(text)-4:])
	return uint64(first) | uint64(last)<<32
}

func plainBytes(text []byte, s style) int {
	for i, c := range text {
		if c < ' ' || c > '~' || s != shown && (c == '"' || c == '\\') {
			return i
		}
	}
	return len(text)
}

// plainWord looks at eight bytes at once. It may say no to plain ones, which are
// then looked at one by one, but never yes to others.
func plainWord(w uint64, s style) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	// The high bit of a byte of w+1 is set for 0x7f, of w for all above, and the
	// subtraction borrows into it from a byte below 0x20.
	odd := w | (w + ones) | (w - ' '*ones)
	if s != shown {
		quote, backslash := w^'"'*ones, w^'\\'*ones
		odd |= (quote - ones) | (backslash - ones)
	}
	return odd&highs == 0
}

// appendRune appends the first rune of text as the style has it. Size is the
// number of bytes it took from text; escaped says that it was not itself.
func appendRune(dst, text []byte, s style) (out []byte, size int, escaped bool) {
	r, size := utf8.DecodeRune(text)
	switch {
	case r == utf8.RuneError && size <= 1:
		if s == shown {
			return appendHex(append(dst, `\x`...), uint32(text[0]), 2), 1, true
		}
		return append(dst, `\ufffd`...), 1, true
	case s != shown && (r == '"' || r == '\\'):
		return append(dst, '\\', byte(r)), size, true
	case printable(r):
		return append(dst, text[:size]...), size, false
	}
	return appendEscape(dst, r, s), size, true
}

// printable says whether a rune shows itself and nothing else. Not printable are
// controls, formats (joiners, bidi controls, byte order marks), separators but
// the space, what isn't assigned, and letters and marks that are invisible.
func printable(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r <= '~'
	}
	return strconv.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func appendEscape(dst []byte, r rune, s style) []byte {
	switch {
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r < utf8.RuneSelf && s == shown:
		return appendHex(append(dst, `\x`...), uint32(r), 2)
	case r <= 0xffff:
		return appendHex(append(dst, `\u`...), uint32(r), 4)
	case s == json:
		r -= 0x10000
		dst = appendHex(append(dst, `\u`...), 0xd800+uint32(r>>10), 4)
		return appendHex(append(dst, `\u`...), 0xdc00+uint32(r&0x3ff), 4)
	}
	return appendHex(append(dst, `\U`...), uint32(r), 8)
}

func appendHex(dst []byte, n uint32, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[n>>shift&0xf])
	}
	return dst
}
