// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"strings"
	"unicode/utf8"
)

// maxTag bounds the text of one declaration tag in bytes; longer ones are cut.
const maxTag = 1024

// tags are the declaration tags of one BTF object: "word" or "word:value".
type tags map[string]string

func parseTags(raw []string) tags {
	t := make(tags, len(raw))
	for _, tag := range raw {
		word, value, _ := strings.Cut(clean(tag), ":")
		if _, seen := t[word]; !seen {
			t[word] = value
		}
	}
	return t
}

func (t tags) value(word string) string { return t[word] }

func (t tags) has(word string) bool {
	_, ok := t[word]
	return ok
}

// clean makes text from an object printable: it comes from whoever built the object.
func clean(text string) string {
	if len(text) > maxTag {
		text = text[:maxTag]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError || (r >= 0x7f && r < 0xa0) {
			return '?'
		}
		return r
	}, text)
}
