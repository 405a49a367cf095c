// SPDX-License-Identifier: Apache-2.0

package wire

// The severities of a Finding: nothing is wrong, something works only in part, something
// doesn't work.
const (
	SeverityFine = iota + 1
	SeverityRestricted
	SeverityBroken
)
