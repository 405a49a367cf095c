// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/tailor"
)

const ownBTF = "/sys/kernel/btf/vmlinux"

// load reads raw BTF, or skips the test.
func load(tb testing.TB, raw []byte) *btf.Spec {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "btf")
	require.NoError(tb, os.WriteFile(path, raw, 0o600))
	spec, err := btf.LoadSpec(path)
	require.NoError(tb, err)
	return spec
}

func own(tb testing.TB) []byte {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("loading eBPF needs root")
	}
	raw, err := os.ReadFile(ownBTF)
	if err != nil {
		tb.Skipf("this kernel carries no BTF: %v", err)
	}
	return raw
}

func TestOwnTypesAgreeInEverything(t *testing.T) {
	got, err := Check(t.Context(), load(t, own(t)))
	require.NoError(t, err)
	require.Empty(t, got.Disagreed)
	for _, name := range got.Unchecked {
		require.Contains(t, []string{"parent process", "socket's family", "socket's port", "start time", "user id"}, name)
	}
	require.GreaterOrEqual(t, len(got.Agreed), 11)
	t.Log(got)
}

// TestTailoredOwnTypesAgree: what was tailored for the witness answers all, and
// what was tailored for something else isn't an error.
func TestTailoredOwnTypesAgree(t *testing.T) {
	full := own(t)
	needs, err := tailor.Parse(Object(runtime.GOARCH))
	require.NoError(t, err)
	small, err := needs.Tailor(full)
	require.NoError(t, err)
	got, err := Check(t.Context(), load(t, small))
	require.NoError(t, err)
	require.Empty(t, got.Disagreed)
	require.GreaterOrEqual(t, len(got.Agreed), 11)
}

// TestAnyTypesAreSafeToAsk: with a few types, or none of the kernel's, the
// program loads and what can't be read is unchecked.
func TestAnyTypesAreSafeToAsk(t *testing.T) {
	own(t)
	word := &btf.Int{Name: "unsigned int", Size: 4}
	for _, test := range []struct {
		name              string
		types             []btf.Type
		agreed, disagreed int
	}{
		{"none of the kernel's", []btf.Type{word}, 0, 0},
		{"garbage offsets", []btf.Type{&btf.Struct{Name: "task_struct", Size: 1 << 20, Members: []btf.Member{
			{Name: "pid", Type: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Offset: 8 << 19},
			{Name: "tgid", Type: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Offset: 8<<19 + 64},
		}}}, 0, 2},
		{"pointers into nowhere", []btf.Type{&btf.Struct{Name: "task_struct", Size: 64, Members: []btf.Member{
			{Name: "nsproxy", Offset: 8 * 3, Type: &btf.Pointer{Target: &btf.Struct{Name: "nsproxy", Size: 8, Members: []btf.Member{
				{Name: "mnt_ns", Type: &btf.Pointer{Target: &btf.Struct{Name: "mnt_namespace", Size: 8, Members: []btf.Member{
					{Name: "ns", Type: &btf.Struct{Name: "ns_common", Size: 4, Members: []btf.Member{{Name: "inum", Type: word}}}},
				}}}},
			}}}},
		}}}, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			builder, err := btf.NewBuilder(test.types, nil)
			require.NoError(t, err)
			raw, err := builder.Marshal(nil, nil)
			require.NoError(t, err)
			got, err := Check(t.Context(), load(t, raw))
			require.NoError(t, err)
			require.Len(t, got.Agreed, test.agreed, "%v", got)
			require.Len(t, got.Disagreed, test.disagreed, "%v", got)
			require.Len(t, got.Unchecked, len(factNames)-test.agreed-test.disagreed)
		})
	}
}

// TestOtherKernelsTypesDisagree over the kernels that `make test-kernels` has collected.
func TestOtherKernelsTypesDisagree(t *testing.T) {
	own(t)
	cache := os.Getenv("NODEGADGET_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		require.NoError(t, err)
		cache = filepath.Join(home, ".cache/nodegadget")
	}
	files, err := filepath.Glob(filepath.Join(cache, "kernels/*/*/btf"))
	require.NoError(t, err)
	if len(files) == 0 {
		t.Skipf("no other kernels' BTF in %s/kernels", cache)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			spec, err := btf.LoadSpec(file)
			require.NoError(t, err)
			got, err := Check(t.Context(), spec)
			require.NoError(t, err)
			require.NotEmpty(t, got.Disagreed)
			t.Log(got)
		})
	}
}

func TestObjectsServeBothArchitectures(t *testing.T) {
	objects := Objects()
	require.Len(t, objects, 2)
	first, err := tailor.Parse(objects[0])
	require.NoError(t, err)
	second, err := tailor.Parse(objects[1])
	require.NoError(t, err)
	require.Equal(t, first.Digest(), second.Digest(), "one tailored BTF serves either")
}

func TestTestimonyIsOneLine(t *testing.T) {
	var got report
	got.Present = 1<<factPID | 1<<factTGID | 1<<factRelease | 1<<factStart
	got.Fact[factPID], got.Fact[factTGID], got.Fact[factStart] = 7, 0, 12_345_678_901
	copy(got.Release[:], "5.4\n\x1b[2J")
	testimony := compare(&got, map[fact]string{
		factPID: "7", factTGID: "7", factRelease: `"6.18.44"`, factStart: "1234", factUID: "0",
	})
	require.Equal(t, []Fact{{"thread id", "7", "7"}, {"start time", "1234", "1234"}}, testimony.Agreed)
	require.Equal(t, `process id is 0, want 7; kernel release is "5.4\n\x1b[2J", want "6.18.44"`, testimony.Disagreement())
	require.Contains(t, testimony.Unchecked, "user id")
	require.Equal(t, `2 facts agree (thread id, start time), 2 don't: `+testimony.Disagreement(), testimony.String())
}

// TestTypesTailoredForGadgetsAreProvable by the members that gadgets use for
// themselves: so they are also if another tool has tailored them.
func TestTypesTailoredForGadgetsAreProvable(t *testing.T) {
	full := own(t)
	paths, err := fs.Glob(gadgets.Objects(), "*/gadget.*.o")
	require.NoError(t, err)
	var objects []tailor.Object
	for _, path := range paths {
		content, err := gadgets.Objects().ReadFile(path)
		require.NoError(t, err)
		objects = append(objects, tailor.Object{Name: path, Content: content})
	}
	needs, err := tailor.Parse(objects...)
	require.NoError(t, err)
	small, err := needs.Tailor(full)
	require.NoError(t, err)
	got, err := Check(t.Context(), load(t, small))
	require.NoError(t, err)
	require.Empty(t, got.Disagreed)
	require.GreaterOrEqual(t, len(got.Agreed), MinFacts)
	t.Log(got)
}
