// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// programs are an object's programs, as the loader sees them.
type programs map[string]*ebpf.ProgramSpec

func loadPrograms(tb testing.TB, object Object) programs {
	tb.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object.Content))
	require.NoError(tb, err, object.Name)
	return spec.Programs
}

func loadSpec(tb testing.TB, raw []byte) *btf.Spec {
	tb.Helper()
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	require.NoError(tb, err)
	return spec
}

// relocate returns the instructions of a program after relocation, one a line,
// or why there are none. Relocations that ask for type numbers are left out.
func relocate(program *ebpf.ProgramSpec, types *btf.Spec) string {
	instructions := program.Instructions
	var relocations []*btf.CORERelocation
	var at []int
	for i := range instructions {
		relocation := btf.CORERelocationMetadata(&instructions[i])
		if relocation == nil || bytes.HasPrefix([]byte(relocation.String()), []byte("CORERelocation(target_type_id")) {
			continue
		}
		relocations = append(relocations, relocation)
		at = append(at, i)
	}
	fixups, err := btf.CORERelocate(relocations, []*btf.Spec{types}, program.ByteOrder,
		func(btf.Type) (btf.TypeID, error) { return 1, nil })
	if err != nil {
		return "error" // its text names types by number, and one of several
	}
	var out bytes.Buffer
	for i, fixup := range fixups {
		ins := instructions[at[i]]
		before := fmt.Sprint(ins)
		if err := fixup.Apply(&ins); err != nil {
			fmt.Fprintf(&out, "%d %s: %s\n", at[i], relocations[i], err)
			continue
		}
		fmt.Fprintf(&out, "%d %s %s: %s -> %v %d %d\n", at[i], relocations[i], &fixup, before, ins, ins.Offset, ins.Constant)
	}
	return out.String()
}

// difference tells the first program that two kernels' types relocate
// differently, and how many relocations were compared.
func difference(objects map[string]programs, full, small *btf.Spec) (diff string, compared int) {
	for name, programs := range objects {
		for program, spec := range programs {
			want, got := relocate(spec, full), relocate(spec, small)
			compared += bytes.Count([]byte(want), []byte{'\n'})
			if want != got {
				return fmt.Sprintf("%s %s:\nwith all types:\n%s\nwith tailored types:\n%s", name, program, want, got), compared
			}
		}
	}
	return "", compared
}
