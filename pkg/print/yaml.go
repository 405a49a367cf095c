// SPDX-License-Identifier: Apache-2.0

package print

import (
	"regexp"
	"slices"
	"strings"
)

// yamlGrammar begins every document with ---, so that a stream can be cut between
// any two. Lists are in flow style, as JSON writes them.
var yamlGrammar = grammar{style: yaml, open: "---", close: "\n", value: " ", appendKey: appendYAMLKey}

var yamlPlainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// yamlWords are keys that some readers don't take for strings.
var yamlWords = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

func appendYAMLKey(dst, key []byte, depth int, _ bool) []byte {
	dst = append(dst, '\n')
	for range depth {
		dst = append(dst, "  "...)
	}
	if yamlPlainKey.Match(key) && !slices.Contains(yamlWords, strings.ToLower(string(key))) {
		dst = append(dst, key...)
	} else {
		dst = appendQuoted(dst, key, yaml)
	}
	return append(dst, ':')
}
