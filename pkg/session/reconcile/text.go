// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of texts in a status, in bytes.
const (
	maxFailure = 256
	maxRefusal = 2048
	// maxNote is what the API server takes of an event, almost.
	maxNote = 1000
)

var wordPattern = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,63}$`)

// word is a reason, which an agent may have got wrong.
func word(text string) string {
	if wordPattern.MatchString(text) {
		return text
	}
	return reasonUnknown
}

// sentence makes a text fit for a status: one line without what a terminal would take
// for a command, because kubectl prints it as it is.
func sentence(text string, limit int) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	const more = "..."
	text = text[:limit-len(more)]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + more
}
