// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBooks(t *testing.T) {
	for _, test := range []struct {
		name string
		entry
		want string
	}{
		{"all seen", entry{Sent: 10, Seen: 10}, ""},
		{"all seen, alone", entry{Sent: 10, Seen: 10, Alone: true}, ""},
		{"lost", entry{Sent: 10, Seen: 7, Lost: 3, Alone: true}, ""},
		{"others lost too", entry{Sent: 10, Seen: 7, Lost: 4}, ""},
		{"one unexplained", entry{Sent: 10, Seen: 9}, "9 seen + 0 lost is not 10 sent"},
		{"one too many lost", entry{Sent: 10, Seen: 7, Lost: 4, Alone: true}, "7 seen + 4 lost is not 10 sent"},
		{"too few lost", entry{Sent: 10, Seen: 7, Lost: 2}, "7 seen + 2 lost is not 10 sent"},
		{"seen twice", entry{Sent: 10, Seen: 11, Lost: 2}, "11 seen of 10 sent"},
		{"hidden", entry{Sent: 10, Blind: true, Alone: true}, ""},
		{"not hidden", entry{Sent: 10, Seen: 1, Blind: true, Alone: true}, "1 seen and 0 lost of calls that the filter hides"},
	} {
		err := test.check()
		if test.want == "" {
			require.NoError(t, err, test.name)
			continue
		}
		require.EqualError(t, err, test.want, test.name)
	}
}

func TestSpread(t *testing.T) {
	require.Equal(t, spread{Min: 1, Median: 2, Max: 9, N: 3}, spreadOf([]float64{9, 1, 2}))
	require.Equal(t, spread{Min: 1, Median: 3, Max: 9, N: 4}, spreadOf([]float64{9, 4, 1, 2}))
	require.Equal(t, spread{}, spreadOf(nil))
	require.Equal(t, spread{Min: 2, Median: 4, Max: 18, N: 3}, spreadOf([]float64{9, 1, 2}).scaled(2))
}

func TestCells(t *testing.T) {
	require.Equal(t, "–", spread{}.cell(whole))
	require.Equal(t, "2", spread{Min: 1.9, Median: 2, Max: 2.1, N: 3}.cell(whole))
	require.Equal(t, "2.0 (1.9…2.1)", spread{Min: 1.9, Median: 2, Max: 2.1, N: 3}.cell(decimals(1)))
	require.Equal(t, "-1,234", whole(-1233.6))
	for v, want := range map[float64]string{100: "100 %", 99.9999: "99.99 %", 99.5: "99.50 %", 62.4: "62 %", 0: "0 %", -3.2: "-3 %"} {
		require.Equal(t, want, percent(v))
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, thousands(n))
	}
}

func TestJudge(t *testing.T) {
	slow := target[*results]{Limit: 15, Unit: " %", Format: decimals(1)}
	require.Equal(t, "not measured", slow.judge(spread{}))
	require.Equal(t, "met", slow.judge(spread{Median: 15, Max: 20, N: 3}))
	require.Equal(t, "missed by 3.5 %", slow.judge(spread{Median: 18.5, Max: 20, N: 3}))
	loss := target[*results]{Format: whole, Worst: true}
	require.Equal(t, "missed by 7", loss.judge(spread{Median: 0, Max: 7, N: 3}))
}
