// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// elfWith is an ELF file with a kernel's sections of BTF and notes, if not nil.
func elfWith(tb testing.TB, raw, notes []byte) []byte {
	tb.Helper()
	type section struct {
		name    string
		kind    elf.SectionType
		content []byte
	}
	sections := []section{{".text", elf.SHT_PROGBITS, []byte("code")}}
	if raw != nil {
		sections = append(sections, section{".BTF", elf.SHT_PROGBITS, raw})
	}
	if notes != nil {
		sections = append(sections, section{".notes", elf.SHT_NOTE, notes})
	}
	names := []byte{0}
	headers := []elf.Section64{{}}
	var body bytes.Buffer
	add := func(s section) {
		headers = append(headers, elf.Section64{
			Name: uint32(len(names)), Type: uint32(s.kind), Off: uint64(64 + body.Len()), Size: uint64(len(s.content)), Addralign: 1,
		})
		names = append(append(names, s.name...), 0)
		body.Write(s.content)
	}
	for _, s := range sections {
		add(s)
	}
	add(section{".shstrtab", elf.SHT_STRTAB, append(bytes.Clone(names), ".shstrtab\x00"...)})
	var out bytes.Buffer
	write := func(v any) { require.NoError(tb, binary.Write(&out, binary.LittleEndian, v)) }
	write(elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: uint64(64 + body.Len()), Ehsize: 64, Shentsize: 64, Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
	})
	out.Write(body.Bytes())
	for _, h := range headers {
		write(h)
	}
	return out.Bytes()
}

// buildID is a kernel's notes, of which one is the build-id.
func buildID(id string) []byte {
	var out bytes.Buffer
	note := func(name string, kind uint32, content []byte) {
		padded := func(b []byte) []byte { return append(bytes.Clone(b), make([]byte, -len(b)&3)...) }
		for _, n := range []uint32{uint32(len(name)), uint32(len(content)), kind} {
			out.Write(binary.NativeEndian.AppendUint32(nil, n))
		}
		out.Write(padded([]byte(name)))
		out.Write(padded(content))
	}
	note("Xen\x00", 3, []byte("not this"))
	note("Linux\x00", 0x100, []byte("6.1"))
	note("GNU\x00", 3, []byte(id))
	return out.Bytes()
}

func TestBuildIDIsFoundAmongNotes(t *testing.T) {
	require.Equal(t, []byte("an id"), findBuildID(buildID("an id"), binary.NativeEndian))
	require.Nil(t, findBuildID(nil, binary.NativeEndian))
	require.Nil(t, findBuildID(buildID("an id")[:30], binary.NativeEndian))
	require.Nil(t, findBuildID(bytes.Repeat([]byte{0xff}, 64), binary.NativeEndian))
}

func TestThisKernelsBuildIDCanBeRead(t *testing.T) {
	if id := runningBuildID(notesPath); id != nil {
		require.GreaterOrEqual(t, len(id), 8)
	}
	require.Nil(t, runningBuildID("/nonexistent"))
}

func FuzzBuildID(f *testing.F) {
	f.Add(buildID("some id"))
	f.Fuzz(func(t *testing.T, notes []byte) {
		require.LessOrEqual(t, len(findBuildID(notes, binary.LittleEndian)), len(notes))
	})
}
