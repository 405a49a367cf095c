// SPDX-License-Identifier: Apache-2.0

// Package event gives the bytes of a record their meaning: a Schema, made from a
// gadget's Source, has a Column for everything that can be shown or filtered by,
// and a Filter is a CEL expression over those columns.
//
// Records are what a kernel program wrote, possibly of another version, possibly
// on another machine. Reading one never panics, never looks past its end and
// never allocates more than the record has bytes: what isn't there reads as
// Null. Texts are handed out as they are; making them safe for a terminal is
// pkg/print's task. Records are little-endian, like every architecture that
// gadgets are built for.
//
//go:generate go run ../../hack/gennames names_generated.go
package event
