// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const release = "5.4.0-42-generic"

// rawBTF has one struct, whose name says which file it came from.
func rawBTF(tb testing.TB, name string) []byte {
	tb.Helper()
	builder, err := btf.NewBuilder([]btf.Type{&btf.Struct{
		Name: name, Size: 4, Members: []btf.Member{{Name: "pid", Type: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}}},
	}}, nil)
	require.NoError(tb, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(tb, err)
	return raw
}

// vmlinux is an ELF file with the section and nothing else of a kernel.
func vmlinux(tb testing.TB, section string, content []byte) []byte {
	tb.Helper()
	const headerSize, sectionSize = 64, 64
	names := "\x00" + section + "\x00.shstrtab\x00"
	var out bytes.Buffer
	write := func(v any) { require.NoError(tb, binary.Write(&out, binary.LittleEndian, v)) }
	write(elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: uint64(headerSize + len(content) + len(names)), Ehsize: headerSize, Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	})
	out.Write(content)
	out.WriteString(names)
	write(elf.Section64{})
	write(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: headerSize, Size: uint64(len(content)), Addralign: 1})
	write(elf.Section64{
		Name: uint32(2 + len(section)), Type: uint32(elf.SHT_STRTAB), Off: uint64(headerSize + len(content)), Size: uint64(len(names)), Addralign: 1,
	})
	return out.Bytes()
}

// put writes a file below root and returns its path.
func put(tb testing.TB, root, name string, content []byte) string {
	tb.Helper()
	path := filepath.Join(root, name)
	require.NoError(tb, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(tb, os.WriteFile(path, content, 0o644))
	return path
}

func requireTypes(tb testing.TB, types Types, name string) {
	tb.Helper()
	require.NotNil(tb, types.Spec)
	var found *btf.Struct
	require.NoError(tb, types.Spec.TypeByName(name, &found))
}

func TestExplicitTypesComeFirst(t *testing.T) {
	root := t.TempDir()
	inKernel := put(t, root, "sys/kernel/btf/vmlinux", rawBTF(t, "in_kernel"))
	put(t, root, "boot/vmlinux-"+release, vmlinux(t, ".BTF", rawBTF(t, "on_disk")))
	files := t.TempDir()
	for _, test := range []struct{ name, path, want string }{
		{"raw BTF", put(t, files, "raw.btf", rawBTF(t, "explicit")), ""},
		{"ELF file", put(t, files, "vmlinux", vmlinux(t, ".BTF", rawBTF(t, "explicit"))), ""},
		{"directory", files, put(t, files, release+".btf", rawBTF(t, "explicit"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := find(Options{Path: test.path, Root: root, Release: release}, inKernel)
			require.NoError(t, err)
			if test.want == "" {
				test.want = test.path
			}
			require.Equal(t, Source{Kind: Explicit, Path: test.want, Release: release}, got.Source)
			requireTypes(t, got, "explicit")
			require.Equal(t, "kernel 5.4.0-42-generic: BTF explicit from "+test.want, got.Source.String())
		})
	}
}

// TestBadExplicitTypesAreAnError: who names a file wants that one, and no other
// in its place.
func TestBadExplicitTypesAreAnError(t *testing.T) {
	root := t.TempDir()
	inKernel := put(t, root, "sys/kernel/btf/vmlinux", rawBTF(t, "in_kernel"))
	fifo := filepath.Join(root, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	for _, test := range []struct{ name, path, want string }{
		{"absent", filepath.Join(root, "none"), root + "/none: not there"},
		{"directory without this kernel's", root, root + "/" + release + ".btf: not there"},
		{"empty", put(t, root, "empty", nil), root + "/empty: "},
		{"text", put(t, root, "text", []byte("no BTF at all, only text")), root + "/text: "},
		{"BTF that is cut", put(t, root, "cut", rawBTF(t, "x")[:40]), root + "/cut: "},
		{"ELF file without BTF", put(t, root, "elf", vmlinux(t, ".text", []byte("code"))), root + "/elf: "},
		{"ELF file that is cut", put(t, root, "cutelf", vmlinux(t, ".BTF", rawBTF(t, "x"))[:80]), root + "/cutelf: "},
		{"pipe", fifo, root + "/fifo: not a regular file of at most 4294967296 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := find(Options{Path: test.path, Root: root, Release: release}, inKernel)
			require.ErrorContains(t, err, "reading BTF given by --btf: "+test.want)
			require.ErrorContains(t, err, "(want a BTF file, an ELF file with a .BTF section, or a directory with 5.4.0-42-generic.btf)")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestKernelsOwnTypesComeBeforeThoseOnDisk(t *testing.T) {
	root := t.TempDir()
	inKernel := put(t, root, "sys/kernel/btf/vmlinux", rawBTF(t, "in_kernel"))
	put(t, root, "boot/vmlinux-"+release, vmlinux(t, ".BTF", rawBTF(t, "on_disk")))
	got, err := find(Options{Root: root, Release: release}, inKernel)
	require.NoError(t, err)
	require.Equal(t, Source{Kind: InKernel, Path: inKernel, Release: release}, got.Source)
	require.Nil(t, got.Spec, "the loader reads them itself")
}

func TestTypesAreFoundWhereLibbpfLooks(t *testing.T) {
	for _, name := range []string{
		"boot/vmlinux-" + release,
		"lib/modules/" + release + "/vmlinux-" + release,
		"lib/modules/" + release + "/build/vmlinux",
		"usr/lib/modules/" + release + "/kernel/vmlinux",
		"usr/lib/debug/boot/vmlinux-" + release,
		"usr/lib/debug/boot/vmlinux-" + release + ".debug",
		"usr/lib/debug/lib/modules/" + release + "/vmlinux",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := put(t, root, name, vmlinux(t, ".BTF", rawBTF(t, "on_disk")))
			put(t, root, "boot/vmlinux-5.4.0-43-generic", vmlinux(t, ".BTF", rawBTF(t, "another_kernel")))
			got, err := find(Options{Root: root, Release: release}, filepath.Join(root, "sys/kernel/btf/vmlinux"))
			require.NoError(t, err)
			require.Equal(t, OnDisk, got.Source.Kind)
			require.Equal(t, path, got.Source.Path)
			requireTypes(t, got, "on_disk")
			require.Equal(t, root+"/sys/kernel/btf/vmlinux: not there", got.Source.Tried[0])
			require.Contains(t, got.Source.String(), "kernel 5.4.0-42-generic: BTF on-disk from "+path+" (before that: "+root)
		})
	}
}

func TestUselessFileDoesNotHideAGoodOne(t *testing.T) {
	root := t.TempDir()
	put(t, root, "boot/vmlinux-"+release, vmlinux(t, ".text", []byte("stripped")))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "lib/modules", release, "build/vmlinux"), 0o755))
	good := put(t, root, "usr/lib/debug/boot/vmlinux-"+release, vmlinux(t, ".BTF", rawBTF(t, "on_disk")))
	got, err := find(Options{Root: root, Release: release}, filepath.Join(root, "sys/kernel/btf/vmlinux"))
	require.NoError(t, err)
	require.Equal(t, good, got.Source.Path)
	require.Len(t, got.Source.Tried, 5)
	require.Contains(t, got.Source.Tried[1], "boot/vmlinux-"+release+": ")
	require.Contains(t, got.Source.Tried[3], "build/vmlinux: not a regular file")
}

func TestNotFoundNamesKernelPlacesAndRemedies(t *testing.T) {
	root := t.TempDir()
	_, err := find(Options{Root: root, Release: release}, filepath.Join(root, "sys/kernel/btf/vmlinux"))
	var notFound *NotFoundError
	require.True(t, errors.As(err, &notFound))
	require.Equal(t, release, notFound.Release)
	require.Len(t, notFound.Tried, 1+len(vmlinuxPaths))
	text := err.Error()
	require.True(t, strings.HasPrefix(text, "no BTF for kernel 5.4.0-42-generic: tried "+root+"/sys/kernel/btf/vmlinux: not there; "), text)
	for _, want := range append([]string{"--btf", "debug vmlinux", "CONFIG_DEBUG_INFO_BTF"}, notFound.Tried...) {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "\n")
	require.NotContains(t, text, "%!")
}

func TestReleaseIsTheRunningKernels(t *testing.T) {
	want, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	got, err := Release()
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(want)), got)

	inKernel := put(t, t.TempDir(), "vmlinux", nil)
	types, err := find(Options{}, inKernel)
	require.NoError(t, err)
	require.Equal(t, got, types.Source.Release)
}
