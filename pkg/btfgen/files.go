// SPDX-License-Identifier: Apache-2.0

package btfgen

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"nodegadget.dev/pkg/btf/tailor"
)

// Bounds of files, in bytes.
const (
	maxObject = 64 << 20
	maxBTF    = 256 << 20
)

// readObjects reads gadgets. Their paths are their names.
func readObjects(paths []string) ([]tailor.Object, error) {
	var objects []tailor.Object
	for _, path := range paths {
		content, err := readFile(path, maxObject)
		if err != nil {
			return nil, fmt.Errorf("reading object: %w", err)
		}
		objects = append(objects, tailor.Object{Name: filepath.ToSlash(path), Content: content})
	}
	return objects, nil
}

// readBTF reads raw BTF, or the .BTF section of an ELF file.
func readBTF(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading BTF: %w", err)
	}
	defer file.Close()
	var start [4]byte
	if _, err := file.ReadAt(start[:], 0); err == nil && string(start[:]) == elf.ELFMAG {
		return readSection(file, path)
	}
	raw, err := readFile(path, maxBTF)
	if err != nil {
		return nil, fmt.Errorf("reading BTF: %w", err)
	}
	return raw, nil
}

func readSection(file io.ReaderAt, path string) ([]byte, error) {
	binary, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading BTF from %s: %w", path, err)
	}
	section := binary.Section(".BTF")
	if section == nil {
		return nil, fmt.Errorf("reading BTF from %s: no .BTF section; btfgen collect makes BTF from debug information", path)
	}
	if section.Size > maxBTF {
		return nil, fmt.Errorf("reading BTF from %s: a .BTF section of %d bytes, at most %d are read", path, section.Size, maxBTF)
	}
	raw, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("reading BTF from %s: %w", path, err)
	}
	return raw, nil
}

// readFile reads a file that isn't larger than it may be.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var content bytes.Buffer
	n, err := content.ReadFrom(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if n > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return content.Bytes(), nil
}

// writeFile makes the file appear whole or not at all.
func writeFile(path string, data []byte) error {
	if err := renameio.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
