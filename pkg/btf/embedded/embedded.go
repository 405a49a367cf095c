// SPDX-License-Identifier: Apache-2.0

//go:build !embedbtf

// Package embedded is the bundle of tailored BTF that a program carries in
// itself, for where one file has to do: no image, nothing to mount.
//
// Only programs that are built with a tag carry one:
//
//	btfgen build --archive DIR --arch x86_64 --out pkg/btf/embedded/btf.bundle gadgets/*/gadget.x86_64.o
//	go build -tags embedbtf ./cmd/gadget-agent
//
// The file isn't in git. The package neither makes bundles nor reads them, see
// pkg/btf/build and pkg/btf/bundle.
package embedded

// Bundle returns nil: this program was built without the tag embedbtf.
func Bundle() []byte { return nil }
