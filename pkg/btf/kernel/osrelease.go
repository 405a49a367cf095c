// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxOSRelease bounds an os-release file, in bytes. Real ones have less than 1 KiB.
	maxOSRelease = 64 << 10
	// maxValue bounds one of its values, in bytes.
	maxValue = 256
)

// osReleaseFiles are the places of os-release(5), the first one counts.
var osReleaseFiles = []string{"etc/os-release", "usr/lib/os-release"}

var keyPattern = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// readOSRelease reads the first os-release file that names a distribution.
func readOSRelease(root *hostRoot) (map[string]string, error) {
	var reasons []string
	for _, name := range osReleaseFiles {
		content, err := root.read(name, maxOSRelease)
		if err != nil {
			reasons = append(reasons, reason(root.full(name), err))
			continue
		}
		if values := parseOSRelease(string(content)); values["ID"] != "" {
			return values, nil
		}
		reasons = append(reasons, root.full(name)+": names no distribution (ID=)")
	}
	return nil, errors.New(strings.Join(reasons, "; "))
}

// parseOSRelease reads what can be read: lines that aren't KEY=value and values
// that nobody could print are left out. A later line wins, as in a shell.
func parseOSRelease(content string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(content) {
		key, quoted, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || !keyPattern.MatchString(key) {
			continue
		}
		value, err := unquote(quoted)
		if err != nil || !printable(value) {
			continue
		}
		values[key] = value
	}
	return values
}

// unquote reads a word as a shell does: 'verbatim', "with \" escapes", and
// escapes outside of quotes. Nothing is expanded.
func unquote(word string) (string, error) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(word); i++ {
		c := word[i]
		switch {
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if i++; i == len(word) {
				return "", fmt.Errorf("value %.64q ends with a backslash", word)
			}
			// In double quotes a backslash before any other character stands for itself.
			if quote == '"' && !strings.ContainsRune("$`\"\\", rune(word[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(word[i])
		case quote == 0 && (c == ' ' || c == '\t' || c == '#' && b.Len() == 0):
			return b.String(), nil
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", fmt.Errorf("value %.64q has no closing quote", word)
	}
	return b.String(), nil
}

func printable(value string) bool {
	return len(value) <= maxValue && utf8.ValidString(value) &&
		!strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })
}
