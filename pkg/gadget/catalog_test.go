// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"errors"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestCatalogReadsTheObjectOfItsArchitecture(t *testing.T) {
	amd64, arm64 := readObject(t, "trace_open", "x86_64"), readObject(t, "trace_open", "arm64")
	files := fstest.MapFS{
		"trace_open/gadget.arm64.o":     {Data: arm64},
		"trace_open/gadget.x86_64.o":    {Data: amd64},
		"trace_open/gadget.bpf.c":       {Data: []byte("not an object")},
		"trace_open/README.md":          {Data: []byte("not an object")},
		"top_syscall/gadget.arm64.o":    {Data: readObject(t, "top_syscall", "arm64")},
		"include/gadget.h":              {Data: []byte("not an object")},
		"deep/er/gadget.x86_64.o":       {Data: amd64},
		"profile_empty/README.md":       {Data: []byte("no object")},
		"gadget.x86_64.o":               {Data: amd64},
		"trace_broken/gadget.x86_64.o":  {Data: []byte("\x7fELF")},
		"trace_renamed/gadget.x86_64.o": {Data: amd64},
	}
	for _, arch := range []string{"x86_64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			catalog, err := NewCatalog(files, arch)
			require.NoError(t, err)
			require.Equal(t, []string{"top_syscall", "trace_broken", "trace_open", "trace_renamed"}, catalog.Names())
			want, err := Parse(files["trace_open/gadget."+arch+".o"].Data)
			require.NoError(t, err)
			got, err := catalog.Object("trace_open")
			require.NoError(t, err)
			require.Equal(t, want.Collection.Programs["exit_raw_tp"].Instructions, got.Collection.Programs["exit_raw_tp"].Instructions)
			// There is none of this architecture, but a client can show it.
			other, err := catalog.Object("top_syscall")
			require.NoError(t, err)
			require.Equal(t, "top_syscall", other.Spec.Name)
		})
	}
}

func TestCatalogSaysWhatIsWrong(t *testing.T) {
	files := fstest.MapFS{
		"trace_open/gadget.x86_64.o":       {Data: readObject(t, "trace_open", "x86_64")},
		"snapshot_process/gadget.x86_64.o": {Data: readObject(t, "snapshot_process", "x86_64")},
		"trace_broken/gadget.x86_64.o":     {Data: []byte("\x7fELF")},
		"trace_renamed/gadget.x86_64.o":    {Data: readObject(t, "trace_open", "x86_64")},
	}
	catalog, err := NewCatalog(files, "x86_64")
	require.NoError(t, err)
	delete(files, "snapshot_process/gadget.x86_64.o")
	for name, want := range map[string]string{
		"trace_opem":       `unknown gadget "trace opem", known are: snapshot process, trace broken, trace open, trace renamed`,
		"":                 `unknown gadget "", known are:`,
		"../trace_open":    `unknown gadget "../trace open", known are:`,
		"trace_\x1b[31m":   `unknown gadget "trace \x1b[31m", known are:`,
		"trace_broken":     "reading gadget trace_broken/gadget.x86_64.o: reading eBPF object:",
		"trace_renamed":    "reading gadget trace_renamed/gadget.x86_64.o: the object calls itself trace_open, its folder trace_renamed",
		"snapshot_process": "reading gadget snapshot_process: open snapshot_process/gadget.x86_64.o: file does not exist",
	} {
		object, err := catalog.Object(name)
		require.ErrorContains(t, err, want)
		require.Nil(t, object)
		assertOneLine(t, err)
	}
	_, err = catalog.Object("nope")
	var unknown *UnknownError
	require.True(t, errors.As(err, &unknown))
	require.Equal(t, "nope", unknown.Name)
	require.Equal(t, catalog.Names(), unknown.Known)
}

func TestSpecHasVerbAndNoun(t *testing.T) {
	for name, want := range map[string][2]string{
		"trace_exec":        {"trace", "exec"},
		"top_block_io":      {"top", "block_io"},
		"namewithoutunders": {"namewithoutunders", ""},
	} {
		s := Spec{Name: name}
		require.Equal(t, want, [2]string{s.Verb(), s.Noun()})
	}
}

func TestKindsHaveNames(t *testing.T) {
	require.Equal(t, "table", Table.String())
	require.Equal(t, "slots", Slots.String())
	require.Empty(t, Kind(200).String())
}
