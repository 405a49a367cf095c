// SPDX-License-Identifier: Apache-2.0

//go:build embedbtf

// Package embedded is the bundle of tailored BTF that a program carries in
// itself. This is the build that has one.
package embedded

import _ "embed"

//go:embed btf.bundle
var bundle []byte

// Bundle returns the bundle that was in this folder when the program was built.
// It must not be changed.
func Bundle() []byte { return bundle }
