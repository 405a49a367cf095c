// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// libraryDirs are where the dynamic linker looks for libraries without being told.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// searchPath is where programs of the machine are looked for.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// find returns the path of a program.
func find(name string) (string, error) { return findIn(searchPath, name) }

func findIn(dirs []string, name string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w in %s", name, fs.ErrNotExist, strings.Join(dirs, ", "))
}

// addLibraries adds to files what a program needs to be run: its dynamic linker, its
// libraries and theirs.
func addLibraries(files map[string]string, program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	var errs []error
	for _, name := range names {
		library, err := findIn(libraryDirs, name)
		if err == nil && files[library] == "" {
			files[library] = library
			err = addLibraries(files, library)
		}
		errs = append(errs, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		linker := make([]byte, p.Filesz)
		if _, err := p.ReadAt(linker, 0); err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		path := strings.TrimRight(string(linker), "\x00")
		files[path] = path
	}
	return errors.Join(errs...)
}
