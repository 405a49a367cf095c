// SPDX-License-Identifier: Apache-2.0

// Command kubectl-gadget is the kubectl plugin `kubectl gadget`.
package main

import (
	"os"

	"nodegadget.dev/pkg/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
