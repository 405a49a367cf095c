// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// writeModule writes an object file that has nothing but a module's information.
func writeModule(t *testing.T, file, information string) {
	t.Helper()
	const names = "\x00.modinfo\x00.shstrtab\x00"
	const headerSize, sectionSize = 64, 64
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: headerSize, Size: uint64(len(information))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: headerSize + uint64(len(information)), Size: uint64(len(names))},
	}
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: headerSize + uint64(len(information)+len(names)), Ehsize: headerSize,
		Shentsize: sectionSize, Shnum: uint16(len(sections)), Shstrndx: 2,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var buf bytes.Buffer
	for _, part := range []any{header, []byte(information + names), sections} {
		require.NoError(t, binary.Write(&buf, binary.LittleEndian, part))
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, buf.Bytes(), 0o644))
}

func TestModules(t *testing.T) {
	dir := t.TempDir()
	for name, information := range map[string]string{
		"fs/overlay.ko":      "license=GPL\x00depends=\x00name=overlay\x00",
		"net/bridge.ko":      "depends=stp,llc\x00",
		"net/stp.ko":         "depends=llc\x00",
		"net/llc.ko":         "license=GPL\x00",
		"virtio/virtio.ko":   "depends=\x00",
		"virtio-rng.ko":      "depends=virtio,built_in\x00",
		"net/never-asked.ko": "depends=llc\x00",
	} {
		writeModule(t, filepath.Join(dir, "6.1", "kernel", name), information)
	}
	found, err := findModules(dir)
	require.NoError(t, err)
	require.Len(t, found, 7)

	files, err := found.closure([]string{"bridge", "virtio_rng", "ext4", "overlay", "llc"})
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(file))
	}
	require.Equal(t, []string{"llc.ko", "stp.ko", "bridge.ko", "virtio.ko", "virtio-rng.ko", "overlay.ko"}, names)
}

func TestModulesErrors(t *testing.T) {
	none, err := findModules("")
	require.NoError(t, err)
	require.Empty(t, none, "of a kernel without modules")

	file := filepath.Join(t.TempDir(), "text.ko")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o644))
	_, err = modules{"text": file}.closure([]string{"text"})
	require.ErrorContains(t, err, "text.ko")
}
