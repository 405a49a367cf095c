// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultCorpus(t *testing.T) {
	c, err := parseCorpus(defaultCorpus)
	require.NoError(t, err)
	total := 0
	questions := make(map[string]bool)
	releases := make(map[string]bool)
	for _, l := range c.Kernels {
		total += l.Take
		questions[l.question()] = true
		dir, err := releaseDir(l.Source.Suites)
		require.NoError(t, err)
		releases[dir+" "+string(l.Arch)] = true
	}
	require.Len(t, questions, len(c.Kernels), "a line is there twice")
	require.GreaterOrEqual(t, total, 55, "some will be gone, 50 have to be left")
	require.LessOrEqual(t, total, 65)
	for _, want := range []string{"bullseye amd64", "bullseye arm64", "12 amd64", "12 arm64", "13 amd64", "13 arm64", "14 amd64", "sid amd64", "sid arm64"} {
		require.Contains(t, releases, want)
	}
}

func TestParseCorpusErrors(t *testing.T) {
	for _, test := range []struct{ name, list, want string }{
		{"empty", "", "EOF"},
		{"no kernels", "kernels: []", "no kernels"},
		{"unknown field", "kernels: [{tak: 1}]", "tak not found"},
		{"no take", "kernels: [{arch: amd64, suites: [sid], package: a}]", "kernel 1: take must be positive"},
		{"bad arch", "kernels: [{arch: i386, suites: [sid], package: a, take: 1}]", `unknown architecture "i386"`},
		{"no package", "kernels: [{arch: amd64, suites: [sid], take: 1}]", "no package"},
		{"unknown suite", "kernels: [{arch: amd64, suites: [buster], package: a, take: 1}]", `suite "buster" is of no release`},
		{"two releases", "kernels: [{arch: amd64, suites: [trixie, sid], package: a, take: 1}]", "different releases"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseCorpus([]byte(test.list))
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestReleaseDir(t *testing.T) {
	for want, suites := range map[string][]string{
		"bullseye": {"bullseye-security", "bullseye"},
		"12":       {"bookworm-backports", "bookworm-security"},
		"13":       {"trixie"},
		"sid":      {"sid"},
		"":         nil,
	} {
		got, err := releaseDir(suites)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		n, take int
		want    []int
	}{
		{0, 3, nil},
		{1, 1, []int{0}},
		{3, 1, []int{0, 1, 2}},
		{5, 2, []int{0, 4, 1, 2, 3}},
		{5, 3, []int{0, 2, 4, 1, 3}},
		{6, 3, []int{0, 2, 5, 1, 3, 4}},
		{10, 4, []int{0, 3, 6, 9, 1, 2, 4, 5, 7, 8}},
		{3, 3, []int{0, 1, 2}},
		{2, 5, []int{0, 1}},
	} {
		require.Equal(t, test.want, spread(test.n, test.take), "%d of %d", test.take, test.n)
	}
	for n := range 20 {
		for take := 1; take < 20; take++ {
			order := spread(n, take)
			slices.Sort(order)
			for i := range n {
				require.Equal(t, i, order[i], "%d of %d: everything is tried, and once", take, n)
			}
		}
	}
}
