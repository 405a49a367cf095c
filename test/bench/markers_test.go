// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpliceTwoReports(t *testing.T) {
	begin, end := markers(mainReport)
	btfBegin, btfEnd := markers(btfReport)
	const hand = "by hand\n"
	whole := strings.Join([]string{hand, begin, "old", end, hand, btfBegin, btfEnd, hand}, "\n")

	one, err := splice(whole, mainReport, "flood\n")
	require.NoError(t, err)
	both, err := splice(one, btfReport, "\ntypes")
	require.NoError(t, err)
	require.Equal(t, strings.Join([]string{
		hand, begin, "\nflood\n", end, hand, btfBegin, "\ntypes\n", btfEnd, hand,
	}, "\n"), both)

	again, err := splice(both, btfReport, "types")
	require.NoError(t, err)
	require.Equal(t, both, again, "the same report changes nothing")

	for _, text := range []string{"", begin + end, btfBegin, btfEnd + btfBegin} {
		_, err := splice(text, btfReport, "types")
		require.ErrorIs(t, err, errMarkers, text)
	}
}

// TestDocumentHasMarkers is about the file that the reports go to by default.
func TestDocumentHasMarkers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", defaultOut))
	require.NoError(t, err)
	for _, report := range []string{mainReport, btfReport} {
		_, err := splice(string(text), report, "x")
		require.NoError(t, err, report)
	}
}
