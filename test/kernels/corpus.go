// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed corpus.yaml
var defaultCorpus []byte

// corpusList is the parsed corpus.yaml.
type corpusList struct {
	Kernels []line `yaml:"kernels"`
}

// line asks for some of the packages that match.
type line struct {
	Arch   arch   `yaml:"arch"`
	Source source `yaml:",inline"`
	Take   int    `yaml:"take"`
}

// question tells whether a line asks for what it asked for last time.
func (l line) question() string {
	return fmt.Sprintf("%s %s %s %d", l.Arch, strings.Join(l.Source.Suites, ","), l.Source.Package, l.Take)
}

func parseCorpus(data []byte) (*corpusList, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)

	var c corpusList
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("parsing corpus: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	if len(c.Kernels) == 0 {
		return nil, errors.New("parsing corpus: no kernels")
	}
	for i, l := range c.Kernels {
		if err := l.validate(); err != nil {
			return nil, fmt.Errorf("parsing corpus: kernel %d: %w", i+1, err)
		}
	}
	return &c, nil
}

func (l line) validate() error {
	if _, err := l.Arch.machine(); err != nil {
		return err
	}
	if l.Take < 1 {
		return errors.New("take must be positive")
	}
	if err := l.Source.validate(); err != nil {
		return err
	}
	_, err := releaseDir(l.Source.Suites)
	return err
}

// releaseDirs are Debian's releases as BTFHub names their folders: by number,
// except for the one it calls by name.
var releaseDirs = map[string]string{
	"bullseye": "bullseye", "bookworm": "12", "trixie": "13", "forky": "14", "sid": "sid",
}

// releaseDir returns the folder of the one release all suites belong to.
func releaseDir(suites []string) (string, error) {
	release := ""
	for _, suite := range suites {
		codename, _, _ := strings.Cut(suite, "-")
		dir, ok := releaseDirs[codename]
		if !ok {
			return "", fmt.Errorf("suite %q is of no release we know", suite)
		}
		if release != "" && release != dir {
			return "", fmt.Errorf("suites %v are of different releases", suites)
		}
		release = dir
	}
	return release, nil
}

// spread returns the order in which to try n packages when take of them are
// wanted: first those that lie evenly between the newest and the oldest, both
// included, then the others, for each that can't be had.
func spread(n, take int) []int {
	var order []int
	switch {
	case n == 0:
		return nil
	case take == 1:
		order = []int{0}
	case take >= n:
	default:
		for i := range take {
			order = append(order, i*(n-1)/(take-1))
		}
	}
	for i := range n {
		if !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	return order
}
