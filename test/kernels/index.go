// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// pkg is one package of a suite's index.
type pkg struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

func (p pkg) String() string { return p.Name + " " + p.Version }

// parseIndex reads the paragraphs of a Packages file.
func parseIndex(r io.Reader) ([]pkg, error) {
	var (
		pkgs []pkg
		cur  pkg
	)
	flush := func() {
		if cur.Name != "" && cur.Version != "" {
			pkgs = append(pkgs, cur)
		}
		cur = pkg{}
	}

	lines := bufio.NewScanner(r)
	// Dependency lines of meta packages are long.
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			flush()
		} else if name, ok := strings.CutPrefix(line, "Package: "); ok {
			cur.Name = name
		} else if version, ok := strings.CutPrefix(line, "Version: "); ok {
			cur.Version = version
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading package index: %w", err)
	}
	flush()
	return pkgs, nil
}

// candidates returns the packages whose name matches, the newest first.
func candidates(pkgs []pkg, name *regexp.Regexp) []pkg {
	var out []pkg
	for _, p := range pkgs {
		if name.MatchString(p.Name) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b pkg) int { return compareVersions(b.Version, a.Version) })
	return out
}
