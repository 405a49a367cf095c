// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"strings"
)

// compareVersions orders Debian package versions as dpkg does: epoch, upstream
// version, Debian revision.
func compareVersions(a, b string) int {
	aEpoch, aUpstream, aRevision := splitVersion(a)
	bEpoch, bUpstream, bRevision := splitVersion(b)
	return cmp.Or(
		compareParts(aEpoch, bEpoch),
		compareParts(aUpstream, bUpstream),
		compareParts(aRevision, bRevision),
	)
}

func splitVersion(v string) (epoch, upstream, revision string) {
	epoch, upstream, found := strings.Cut(v, ":")
	if !found {
		epoch, upstream = "", v
	}
	if i := strings.LastIndexByte(upstream, '-'); i >= 0 {
		upstream, revision = upstream[:i], upstream[i+1:]
	}
	return epoch, upstream, revision
}

// compareParts takes turns: a run of non-digits by weight, a run of digits by
// value. 6.12.9 is thus older than 6.12.10, and 7.3~rc1 older than 7.3.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		var aText, bText, aNum, bNum string
		aText, a = cutRun(a, false)
		bText, b = cutRun(b, false)
		if c := compareText(aText, bText); c != 0 {
			return c
		}

		aNum, a = cutRun(a, true)
		bNum, b = cutRun(b, true)
		aNum, bNum = strings.TrimLeft(aNum, "0"), strings.TrimLeft(bNum, "0")
		if c := cmp.Or(cmp.Compare(len(aNum), len(bNum)), cmp.Compare(aNum, bNum)); c != 0 {
			return c
		}
	}
	return 0
}

// cutRun splits s after its leading digits (or non-digits).
func cutRun(s string, digits bool) (run, rest string) {
	i := 0
	for i < len(s) && ('0' <= s[i] && s[i] <= '9') == digits {
		i++
	}
	return s[:i], s[i:]
}

func compareText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// weight is the rank of a character: a tilde sorts before the end of the text,
// letters before everything else.
func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case 'a' <= s[i] && s[i] <= 'z' || 'A' <= s[i] && s[i] <= 'Z':
		return int(s[i])
	default:
		return int(s[i]) + 256
	}
}
