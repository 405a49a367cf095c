// SPDX-License-Identifier: Apache-2.0

package wire

import "fmt"

// The version that this package speaks. Minor versions only add.
const (
	Major = 1
	Minor = 2
)

// Limits that both sides keep.
const (
	// MaxMessage bounds a message in bytes.
	MaxMessage = 4 << 20
	// MaxParams bounds the parameters of a run.
	MaxParams = 64
	// Window is the flow-control window of a stream in bytes. It must hold several
	// batches, or a sender waits for its peer after each.
	Window = 1 << 20
)

// Current is the version that this package speaks.
func Current() *Version { return &Version{Major: Major, Minor: Minor} }

// CheckVersion refuses a peer of another major version.
func CheckVersion(peer *Version) error {
	if peer.GetMajor() != Major {
		return fmt.Errorf("protocol version %d.%d of the peer doesn't go with %d.%d: use the same major version on both sides",
			peer.GetMajor(), peer.GetMinor(), Major, Minor)
	}
	return nil
}
