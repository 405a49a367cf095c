// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// installedSection is the name of a section by which a Chooser knows files of
// EncodeELF again: they may hold only what some gadgets need.
const installedSection = ".nodegadget.strtab"

// EncodeELF wraps raw BTF into an ELF file that tools take for a vmlinux: nothing
// but a .BTF section and a symbol table without symbols, which some insist on.
// Arch is x86_64 or arm64. A Chooser leaves such a file to the other tools, unless
// the operator names it.
func EncodeELF(raw []byte, arch string) []byte {
	machine := elf.EM_X86_64
	if arch == "arm64" {
		machine = elf.EM_AARCH64
	}
	const (
		headerSize = 64
		names      = "\x00.BTF\x00.symtab\x00" + installedSection + "\x00"
		nameBTF    = 1
		nameSymtab = nameBTF + len(".BTF") + 1
		nameStrtab = nameSymtab + len(".symtab") + 1
	)
	symbols := make([]byte, elf.Sym64Size)
	atBTF := headerSize
	atSymbols := (atBTF + len(raw) + 7) &^ 7
	atNames := atSymbols + len(symbols)
	atHeaders := (atNames + len(names) + 7) &^ 7
	sections := []elf.Section64{
		{},
		{Name: nameBTF, Type: uint32(elf.SHT_PROGBITS), Off: uint64(atBTF), Size: uint64(len(raw)), Addralign: 1},
		{
			Name: uint32(nameSymtab), Type: uint32(elf.SHT_SYMTAB), Off: uint64(atSymbols), Size: uint64(len(symbols)),
			Link: 3, Info: 1, Addralign: 8, Entsize: elf.Sym64Size,
		},
		{Name: uint32(nameStrtab), Type: uint32(elf.SHT_STRTAB), Off: uint64(atNames), Size: uint64(len(names)), Addralign: 1},
	}
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Shoff: uint64(atHeaders), Ehsize: headerSize, Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 3,
	}
	var out bytes.Buffer
	pad := func(to int) { out.Write(make([]byte, to-out.Len())) }
	// Writing to memory doesn't fail.
	_ = binary.Write(&out, binary.LittleEndian, header)
	out.Write(raw)
	pad(atSymbols)
	out.Write(symbols)
	out.WriteString(names)
	pad(atHeaders)
	_ = binary.Write(&out, binary.LittleEndian, sections)
	return out.Bytes()
}
