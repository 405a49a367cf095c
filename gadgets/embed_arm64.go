// SPDX-License-Identifier: Apache-2.0

package gadgets

import "embed"

//go:embed */gadget.arm64.o
var objects embed.FS
