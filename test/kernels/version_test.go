// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	// From old to new.
	versions := []string{
		"5.10.257-1",
		"5.10.262-1",
		"6.1.192-2",
		"6.12.9-1",
		"6.12.95-1~deb12u1",
		"6.12.95-1",
		"6.12.117-1",
		"6.18.15-1~bpo13+1",
		"7.3~rc1-1~exp1",
		"7.3~rc1-1",
		"7.3-1",
		"7.3a-1",
		"7.3+b-1",
		"7.3.4-1~bpo13+1",
		"7.3.4-1",
		"7.3.4-1+b1",
		"1:1.37.0-6",
		"1:1.37.0-6+b9",
	}
	for i, a := range versions {
		for j, b := range versions {
			got, want := compareVersions(a, b), cmp.Compare(i, j)
			if cmp.Compare(got, 0) != want {
				t.Errorf("compareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	if compareVersions("6.01-1", "6.1-1") != 0 || compareVersions("0:6.1-1", "6.1-1") != 0 {
		t.Error("leading zeros and an epoch of zero must not matter")
	}
}
