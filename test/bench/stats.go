// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// spread is what repeating a measurement gave.
type spread struct {
	Min, Median, Max float64
	// N is the number of values; 0 means that nothing was measured.
	N int
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{
		Min: sorted[0], Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Max: sorted[n-1], N: n,
	}
}

// scaled multiplies all by factor, which is positive.
func (s spread) scaled(factor float64) spread {
	return spread{Min: s.Min * factor, Median: s.Median * factor, Max: s.Max * factor, N: s.N}
}
