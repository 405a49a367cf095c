// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz/lzma"
)

// This file makes kernels and packages as small as they can be.

const sampleUname = "5.10.0-8-amd64"

func sampleBanner(uname string) []byte {
	return fmt.Appendf(nil, "\x00Linux version %s (build@host) (gcc)\n\x00", uname)
}

// elfSection is a section of an ELF file that a test makes.
type elfSection struct {
	name    string
	content []byte
	empty   bool // leaves the content out, as debug files do
}

// makeELF returns an ELF file with sections.
func makeELF(t testing.TB, machine elf.Machine, sections ...elfSection) []byte {
	t.Helper()
	sections = append(sections, elfSection{name: ".shstrtab"})
	names := "\x00"
	for _, s := range sections {
		names += s.name + "\x00"
	}
	sections[len(sections)-1].content = []byte(names)
	const headerLen, sectionLen = 64, 64
	var body bytes.Buffer
	headers := []elf.Section64{{}}
	for _, s := range sections {
		h := elf.Section64{
			Name: uint32(strings.Index(names, s.name+"\x00")), Type: uint32(elf.SHT_PROGBITS),
			Off: uint64(headerLen + body.Len()), Size: uint64(len(s.content)), Addralign: 1,
		}
		switch {
		case s.name == ".shstrtab":
			h.Type = uint32(elf.SHT_STRTAB)
		case s.empty:
			h.Type = uint32(elf.SHT_NOBITS)
		}
		if !s.empty {
			body.Write(s.content)
		}
		headers = append(headers, h)
	}
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: headerLen,
		Shoff: uint64(headerLen + body.Len()), Shentsize: sectionLen,
		Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = 2, 1, 1
	var out bytes.Buffer
	require.NoError(t, binary.Write(&out, binary.LittleEndian, header))
	out.Write(body.Bytes())
	require.NoError(t, binary.Write(&out, binary.LittleEndian, headers))
	return out.Bytes()
}

// sampleVmlinux is a kernel for x86_64 with types.
func sampleVmlinux(t testing.TB, uname string) []byte {
	return makeELF(t, elf.EM_X86_64, elfSection{name: ".rodata", content: sampleBanner(uname)},
		elfSection{name: ".BTF", content: sampleBTF(t, "task_struct")})
}

// sampleImage is a flat arm64 kernel with types.
func sampleImage(t testing.TB, uname string) []byte {
	b := make([]byte, 256)
	copy(b, "MZ")
	copy(b[0x38:], "ARM\x64")
	return append(append(b, sampleBanner(uname)...), sampleBTF(t, "task_struct")...)
}

// makeBzImage packs a kernel as x86 boots it.
func makeBzImage(t testing.TB, format string, vmlinux []byte) []byte {
	payload := compressImage(t, format, vmlinux)
	if format != "gz" {
		payload = binary.LittleEndian.AppendUint32(payload, uint32(len(vmlinux)))
	}
	b := make([]byte, 1024)
	b[0x1f1] = 1 // one sector besides the boot sector
	copy(b[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint32(b[0x248:], 16)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(append(append(b, make([]byte, 16)...), payload...), make([]byte, 99)...)
}

// makeZboot packs a kernel as EFI boots it.
func makeZboot(t testing.TB, format string, image []byte) []byte {
	payload := compressImage(t, format, image)
	b := make([]byte, 64)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[8:], 64)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	return append(append(b, payload...), make([]byte, 99)...)
}

// compressImage knows two formats more that the kernel's build has.
func compressImage(t testing.TB, format string, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "lz4":
		l := lz4.NewWriter(&out)
		err = l.Apply(lz4.LegacyOption(true))
		w = l
	case "lzma":
		w, err = lzma.NewWriter(&out)
	default:
		return compress(t, format, b)
	}
	require.NoError(t, err)
	_, err = w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// makeDeb packs files as Debian does.
func makeDeb(t testing.TB, format, control string, files ...member) []byte {
	t.Helper()
	suffix := map[string]string{"": "", "gz": ".gz", "xz": ".xz", "zst": ".zst"}[format]
	out := []byte("!<arch>\n")
	for _, m := range []member{
		{name: "debian-binary", content: []byte("2.0\n")},
		{name: "control.tar" + suffix, content: compress(t, format, makeTar(t, member{name: "./control", content: []byte(control)}))},
		{name: "data.tar" + suffix, content: compress(t, format, makeTar(t, files...))},
	} {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o100644, len(m.content))
		out = append(out, m.content...)
		if len(m.content)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}

// makeRPM packs files as rpm does.
func makeRPM(t testing.TB, format string, tags map[uint32]string, files ...member) []byte {
	t.Helper()
	out := make([]byte, 96)
	copy(out, "\xed\xab\xee\xdb\x03")
	out = append(out, rpmHeader(map[uint32]string{1000: "signature"})...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	out = append(out, rpmHeader(tags)...)
	var payload []byte
	for i, m := range append(files, member{name: "TRAILER!!!"}) {
		payload = fmt.Appendf(payload, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", i, 0o100644, 0, 0, 1, 0,
			len(m.content), 0, 0, 0, 0, len(m.name)+1, 0)
		payload = append(payload, m.name+"\x00"...)
		payload = append(payload, make([]byte, -len(payload)&3)...)
		payload = append(payload, m.content...)
		payload = append(payload, make([]byte, -len(payload)&3)...)
	}
	return append(out, compressImage(t, format, payload)...)
}

func rpmHeader(tags map[uint32]string) []byte {
	var index, data []byte
	for tag, value := range tags {
		for _, field := range []uint32{tag, 6, uint32(len(data)), 1} {
			index = binary.BigEndian.AppendUint32(index, field)
		}
		data = append(data, value+"\x00"...)
	}
	out := []byte("\x8e\xad\xe8\x01\x00\x00\x00\x00")
	out = binary.BigEndian.AppendUint32(out, uint32(len(tags)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	return append(append(out, index...), data...)
}
