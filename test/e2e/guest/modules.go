// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that a node needs. Those that a kernel hasn't got are built in.
var wanted = []string{
	// The disk, the network and random numbers of the machine.
	"virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "crc32c_generic", "ext4",
	// Containers' file systems and network.
	"overlay", "veth", "bridge", "af_packet",
}

// modules are files of modules by name.
type modules map[string]string

func findModules(dir string) (modules, error) {
	found := make(modules)
	if dir == "" {
		return found, nil
	}
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(file), ".ko"); ok {
			found[moduleName(name)] = file
		}
		return err
	})
	return found, err
}

// moduleName is the kernel's spelling.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// closure returns the files of modules and of all that they need, in the order in which
// they can be loaded.
func (m modules) closure(names []string) ([]string, error) {
	var files []string
	for _, name := range names {
		file, ok := m[moduleName(name)]
		if !ok || slices.Contains(files, file) {
			continue
		}
		needed, err := dependencies(file)
		if err != nil {
			return nil, err
		}
		before, err := m.closure(needed)
		if err != nil {
			return nil, err
		}
		for _, f := range append(before, file) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// dependencies reads the names of the modules that a module needs. No cycle can be
// among them: it couldn't be loaded.
func dependencies(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s has no .modinfo", file)
	}
	text, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	for field := range bytes.SplitSeq(text, []byte{0}) {
		if names, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(names) > 0 {
			return strings.Split(string(names), ","), nil
		}
	}
	return nil, nil
}
