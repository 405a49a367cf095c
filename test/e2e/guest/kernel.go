// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"strings"
)

// Kernel is what a guest boots.
type Kernel struct {
	// Name is that in the matrix of test/kernels.
	Name string
	// Boot is the path of the kernel, Modules the directory of its modules, if it has
	// some: DIR/RELEASE/kernel.
	Boot, Modules string
}

// ReadKernels reads what `kernels fetch -modules` prints.
func ReadKernels(file string) (map[string]Kernel, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	kernels := make(map[string]Kernel)
	for line := range strings.Lines(string(text)) {
		// Name, package, version, kernel, BTF, modules.
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 6 {
			return nil, fmt.Errorf("%s: a line has %d fields, want 6", file, len(fields))
		}
		kernels[fields[0]] = Kernel{Name: fields[0], Boot: fields[3], Modules: fields[5]}
	}
	return kernels, nil
}
