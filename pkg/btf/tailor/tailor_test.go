// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/gadgets"
)

//go:generate testdata/build.sh

// builtin are the gadgets of this repository, for both architectures.
func builtin(tb testing.TB) []Object {
	tb.Helper()
	files := gadgets.Objects()
	var objects []Object
	require.NoError(tb, fs.WalkDir(files, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".o" {
			return err
		}
		content, err := fs.ReadFile(files, name)
		objects = append(objects, Object{name, content})
		return err
	}))
	require.NotEmpty(tb, objects)
	return objects
}

// testObject has relocations of every kind.
func testObject(tb testing.TB, target string) Object {
	tb.Helper()
	name := "relocations." + target + ".o"
	content, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(tb, err)
	return Object{name, content}
}

// hostBTF is the BTF of the kernel that runs the tests.
func hostBTF(tb testing.TB) []byte {
	tb.Helper()
	raw, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		tb.Skipf("this kernel shows no BTF: %v", err)
	}
	return raw
}

func parse(tb testing.TB, objects ...Object) *Needs {
	tb.Helper()
	n, err := Parse(objects...)
	require.NoError(tb, err)
	return n
}

func loadAll(tb testing.TB, objects []Object) map[string]programs {
	tb.Helper()
	all := make(map[string]programs)
	for _, object := range objects {
		all[object.Name] = loadPrograms(tb, object)
	}
	return all
}

func TestTailoredTypesRelocateAsAllTypesDo(t *testing.T) {
	full := hostBTF(t)
	objects := append(builtin(t), testObject(t, "bpfel"))
	small, err := parse(t, objects...).Tailor(full)
	require.NoError(t, err)
	diff, compared := difference(loadAll(t, objects), loadSpec(t, full), loadSpec(t, small))
	require.Empty(t, diff)
	require.Greater(t, compared, 500)
	require.Less(t, len(small), 16<<10, "most of it should be gone")
}

// TestEachObjectAloneIsServed: what is left for one object may lack what another
// one needs.
func TestEachObjectAloneIsServed(t *testing.T) {
	full := hostBTF(t)
	spec := loadSpec(t, full)
	for _, object := range append(builtin(t), testObject(t, "bpfel")) {
		small, err := parse(t, object).Tailor(full)
		require.NoError(t, err)
		diff, _ := difference(loadAll(t, []Object{object}), spec, loadSpec(t, small))
		require.Empty(t, diff, object.Name)
	}
}

// TestEveryKindOfRelocationIsTried makes sure that the test object has what the
// comparison is about.
func TestEveryKindOfRelocationIsTried(t *testing.T) {
	queries, err := parseObject(testObject(t, "bpfel").Content)
	require.NoError(t, err)
	seen := make(map[reloKind]int)
	for _, q := range queries {
		seen[q.kind]++
	}
	for k := range reloKind(len(reloNames)) {
		if k != typeIDLocal {
			require.Positive(t, seen[k], k)
		}
	}
	all := relocateAll(loadPrograms(t, testObject(t, "bpfel")), loadSpec(t, hostBTF(t)))
	require.NotContains(t, all, "error")
	for _, want := range []string{"=poison", "field_exists=1->0", "field_exists=1->1", "type_matches=1->1", "type_matches=1->0"} {
		require.True(t, strings.Contains(all, want), want)
	}
}

func relocateAll(programs programs, types *btf.Spec) string {
	var out bytes.Buffer
	for name, program := range programs {
		out.WriteString(name + "\n" + relocate(program, types))
	}
	return out.String()
}

func TestBytesDoNotDependOnTheRun(t *testing.T) {
	full := hostBTF(t)
	objects := builtin(t)
	want, err := parse(t, objects...).Tailor(full)
	require.NoError(t, err)
	// Nor on the order of the objects.
	for i := range objects {
		rotated := append(objects[i:len(objects):len(objects)], objects[:i]...)
		n := parse(t, rotated...)
		require.Equal(t, parse(t, objects...).Digest(), n.Digest())
		got, err := n.Tailor(full)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	// And what is tailored already stays.
	again, err := parse(t, objects...).Tailor(want)
	require.NoError(t, err)
	require.Equal(t, want, again)
}

// TestBigEndian converts this kernel's types, as there are no others at hand.
func TestBigEndian(t *testing.T) {
	object := testObject(t, "bpfeb")
	full := swap(t, hostBTF(t))
	small, err := parse(t, object).Tailor(full)
	require.NoError(t, err)
	require.Equal(t, uint16(magic), binary.BigEndian.Uint16(small))
	diff, compared := difference(loadAll(t, []Object{object}), loadSpec(t, full), loadSpec(t, small))
	require.Empty(t, diff)
	require.Greater(t, compared, 100)
	require.Equal(t, parse(t, testObject(t, "bpfel")).Digest(), parse(t, object).Digest(), "the byte order asks for nothing")
}

// swap turns the byte order of BTF around.
func swap(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	types := binary.LittleEndian.Uint32(raw[12:])
	out := bytes.Clone(raw)
	binary.BigEndian.PutUint16(out, magic)
	for at := 4; at < headerSize+int(types); at += 4 {
		binary.BigEndian.PutUint32(out[at:], binary.LittleEndian.Uint32(raw[at:]))
	}
	return out
}

func TestUnmatchedTypesAreListed(t *testing.T) {
	result, err := parse(t, testObject(t, "bpfel")).Cut(hostBTF(t))
	require.NoError(t, err)
	require.Equal(t, []string{"long_chain", "no_such_enum", "no_such_struct"}, result.Unmatched)
}

func TestTypeNumbersAreListed(t *testing.T) {
	require.Len(t, parse(t, testObject(t, "bpfel")).TypeIDs(), 1)
	require.Empty(t, parse(t, builtin(t)...).TypeIDs(), "no gadget may depend on them")
}

// TestOtherToolsReadIt: the result is for libbpf as well.
func TestOtherToolsReadIt(t *testing.T) {
	tool, err := exec.LookPath("bpftool")
	if err != nil {
		t.Skip("bpftool is not installed")
	}
	small, err := parse(t, append(builtin(t), testObject(t, "bpfel"))...).Tailor(hostBTF(t))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "small.btf")
	require.NoError(t, os.WriteFile(file, small, 0o644))
	out, err := exec.CommandContext(t.Context(), tool, "btf", "dump", "file", file).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "STRUCT 'task_struct'")
	require.NotContains(t, string(out), "ENUM 'pid_type' encoding=UNSIGNED size=4 vlen=0")
}

func TestBadInput(t *testing.T) {
	n := parse(t, builtin(t)...)
	full := hostBTF(t)
	cutTypes := bytes.Clone(full)
	binary.LittleEndian.PutUint32(cutTypes[12:], 1<<31)
	newKind := bytes.Clone(full)
	binary.LittleEndian.PutUint32(newKind[headerSize+4:], 31<<24)
	badName := bytes.Clone(full)
	binary.LittleEndian.PutUint32(badName[headerSize:], 1<<30)
	for _, test := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty", nil, "0 bytes are too short for BTF"},
		{"text", bytes.Repeat([]byte("text "), 100), "not BTF: want raw BTF"},
		{"ELF", builtin(t)[0].Content, "not BTF: want raw BTF"},
		{"version", append([]byte{0x9f, 0xeb, 9, 0}, full[4:100]...), "version 9"},
		{"cut", full[:len(full)/2], "cut short"},
		{"types beyond the end", cutTypes, "cut short: its types are beyond the end"},
		{"kind of the future", newKind, "type 1: unknown kind 31: made by a newer pahole"},
		{"name beyond the strings", badName, "type 1: name at 1073741824 is beyond the strings"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := n.Tailor(test.raw)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestBadObjects(t *testing.T) {
	good := testObject(t, "bpfel").Content
	host, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	for _, test := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "want an eBPF object"},
		{"text", []byte("no object"), "want an eBPF object"},
		{"program of another machine", host, "want an eBPF object"},
		{"cut", good[:len(good)/2], `object "bad.o": `},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(Object{"bad.o", test.content})
			require.ErrorContains(t, err, `object "bad.o": `)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func BenchmarkTailor(b *testing.B) {
	n := parse(b, builtin(b)...)
	full := hostBTF(b)
	b.SetBytes(int64(len(full)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := n.Tailor(full)
		require.NoError(b, err)
	}
}

func BenchmarkParse(b *testing.B) {
	objects := builtin(b)
	for b.Loop() {
		_, err := Parse(objects...)
		require.NoError(b, err)
	}
}
