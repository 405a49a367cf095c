// SPDX-License-Identifier: Apache-2.0

package print

import (
	"fmt"
	"strings"
)

// Mode is the form of the output.
type Mode uint8

// The modes.
const (
	// Columns is a table of what matters most.
	Columns Mode = iota
	// Wide is a table of all columns, hidden ones too.
	Wide
	// JSON is one object a line.
	JSON
	// YAML is one document a record.
	YAML
	// None prints nothing: events are only counted.
	None
)

var modes = [...]string{Columns: "columns", Wide: "wide", JSON: "json", YAML: "yaml", None: "none"}

// ParseMode is the Mode of a name; its error lists the names.
func ParseMode(name string) (Mode, error) {
	for i, known := range modes {
		if name == known {
			return Mode(i), nil
		}
	}
	return 0, fmt.Errorf("unknown output mode %q, allowed are: %s", name, strings.Join(modes[:], ", "))
}

// String is the name that ParseMode reads.
func (m Mode) String() string {
	if int(m) < len(modes) {
		return modes[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}
