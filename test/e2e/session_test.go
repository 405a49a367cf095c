// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// block is one of code in a document, with the file name that stands before it.
type block struct {
	file  string
	lines []string
}

var blocks = regexp.MustCompile("(?ms)(?:^`([a-z]+\\.yaml)`:\n\n)?^```[a-z]*\n(.*?)\n```$")

// blocksOf are the blocks of code of a document, in their order.
func blocksOf(t *testing.T, document string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, document))
	require.NoError(t, err)
	var all []block
	for _, match := range blocks.FindAllStringSubmatch(string(text), -1) {
		all = append(all, block{file: match[1], lines: strings.Split(strings.ReplaceAll(match[2], "\\\n", " "), "\n")})
	}
	return all
}

// testSessionGuide does what docs/sessions.md says, to the letter.
func testSessionGuide(t *testing.T, s *suite) {
	sh := s.shell(t)
	s.makeShop(t)
	sh.work = t.TempDir()
	all := blocksOf(t, "docs/sessions.md")
	require.Greater(t, len(all), 6)
	for _, b := range all {
		if b.file != "" {
			text := strings.Join(b.lines, "\n") + "\n"
			require.NoError(t, os.WriteFile(filepath.Join(sh.work, b.file), []byte(text), 0o600))
			continue
		}
		for _, line := range b.lines {
			t.Log(line)
			s.follow(t, sh, line)
		}
	}
}

// follow runs a line of the guide, and makes sure of what a reader would expect of it.
func (s *suite) follow(t *testing.T, sh *shell, line string) {
	t.Helper()
	switch {
	case strings.Contains(line, " logs ") && strings.Contains(line, " -f"):
		sh.runUntil(t, line, "cart-7d9f")
	case strings.Contains(line, " logs "):
		eventually(t, func() error {
			if said := sh.run(t, line); !strings.Contains(said, "cart-7d9f") {
				return fmt.Errorf("%s shows no event of the cart:\n%s", line, said)
			}
			return nil
		})
	case strings.Contains(line, " describe "):
		require.Contains(t, sh.run(t, line), "Running")
	case strings.Contains(line, "session list"), strings.Contains(line, " get "):
		require.Regexp(t, "carts-exec|root-execs", sh.run(t, line))
	default:
		require.NotEmpty(t, sh.run(t, line))
	}
}
