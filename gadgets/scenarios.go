// SPDX-License-Identifier: Apache-2.0

package gadgets

import "embed"

//go:embed */scenario.yaml
var scenarios embed.FS

// Scenarios has the gadgets' own tests, "<name>/scenario.yaml", so that a test
// binary finds them on any machine. Programs that don't ask for them don't carry them.
func Scenarios() embed.FS { return scenarios }
