// SPDX-License-Identifier: Apache-2.0

// Package version knows which build this is.
package version

// Version is set by the linker: -X nodegadget.dev/pkg/version.Version=v1.2.3.
var Version = "devel"
