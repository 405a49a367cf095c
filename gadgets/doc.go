// SPDX-License-Identifier: Apache-2.0

// Package gadgets holds the built-in gadgets: one folder each, with its C source
// and the objects that are built from it. A folder that is put here is built by
// `make objects` and embedded by the next build; no Go file needs to change.
package gadgets

import "embed"

// Objects has one file for each gadget, "<name>/gadget.<arch>.o", of the
// architecture that the program is built for. Clients on other systems, which
// only read the descriptions, get those of x86_64.
func Objects() embed.FS { return objects }
