// SPDX-License-Identifier: Apache-2.0

// Command btfgen makes and serves tailored BTF.
package main

import (
	"os"

	"nodegadget.dev/pkg/btfgen"
)

func main() {
	os.Exit(btfgen.Main(os.Args[1:]))
}
