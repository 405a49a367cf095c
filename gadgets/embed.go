// SPDX-License-Identifier: Apache-2.0

//go:build !arm64

package gadgets

import "embed"

//go:embed */gadget.x86_64.o
var objects embed.FS
