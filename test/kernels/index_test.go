// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

// sampleIndex is in the order of the alphabet, as indexes are.
const sampleIndex = `Package: linux-binary-7.2.12+deb13-cloud-amd64
Source: linux-signed-amd64 (7.2.12+1~bpo13+1)
Version: 7.2.12-1~bpo13+1
Description: Linux 7.2.12 for x86-64 cloud
 Version: not a field

Package: linux-binary-7.2.9+deb13-cloud-amd64
Version: 7.2.9-1~bpo13+1

Package: linux-binary-7.3.4+deb13-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-binary-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-image-6.18.9+deb13-cloud-amd64
Version: 6.18.9-1~bpo13+1

Package: linux-image-6.18.15+deb13-cloud-amd64
Version: 6.18.15-1~bpo13+1

Package: without-version
`

func TestCandidates(t *testing.T) {
	pkgs, err := parseIndex(strings.NewReader(sampleIndex))
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) != 7 {
		t.Errorf("%d packages, want 7: %v", len(pkgs), pkgs)
	}
	m, err := parseMatrix(defaultMatrix)
	if err != nil {
		t.Fatal(err)
	}

	want := map[string][]string{
		"newest": {"linux-binary-7.3.4+deb13-cloud-amd64", "linux-binary-7.2.12+deb13-cloud-amd64", "linux-binary-7.2.9+deb13-cloud-amd64"},
		"6.18":   {"linux-image-6.18.15+deb13-cloud-amd64", "linux-image-6.18.9+deb13-cloud-amd64"},
		"6.1":    nil,
	}
	for _, k := range m.Kernels {
		names, ok := want[k.Name]
		if !ok {
			continue
		}
		var got []string
		for _, p := range candidates(pkgs, k.Source.Package.Regexp) {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, names) {
			t.Errorf("%s: %v, want %v", k.Name, got, names)
		}
	}
}

func TestParseIndexBroken(t *testing.T) {
	if _, err := parseIndex(strings.NewReader(strings.Repeat("x", 5<<20))); err == nil {
		t.Error("a line without end is accepted")
	}
}
