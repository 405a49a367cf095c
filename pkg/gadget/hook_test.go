// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// program calls helpers and returns.
func program(section string, tags []string, helpers ...asm.BuiltinFunc) *ebpf.ProgramSpec {
	var code asm.Instructions
	for _, fn := range helpers {
		code = append(code, fn.Call())
	}
	code = append(code, asm.Mov.Imm(asm.R0, 0), asm.Return())
	code[0] = btf.WithFuncMetadata(code[0], &btf.Func{Name: "f", Tags: tags})
	return &ebpf.ProgramSpec{SectionName: section, Instructions: code}
}

func TestProgramsAreGroupedByRank(t *testing.T) {
	got, err := parseGroups(map[string]*ebpf.ProgramSpec{
		"z_exit":   program("kretprobe/f", []string{"hook:call/2/kprobe", "optional"}, asm.FnKtimeGetBootNs, asm.FnMapLookupElem, asm.FnKtimeGetBootNs),
		"a_entry":  program("kprobe/f", []string{"hook:call/2/kprobe"}),
		"typed":    program("fexit/f", []string{"hook:call/1/fexit", "when:full_path"}),
		"at_begin": program("raw_tp/sys_enter", []string{"hook:begin/9/raw"}),
	})
	require.NoError(t, err)
	require.Equal(t, []Group{
		{Name: "begin", Alternatives: []Alternative{
			{Name: "raw", Rank: 9, Programs: []Program{{Name: "at_begin", Section: "raw_tp/sys_enter"}}},
		}},
		{Name: "call", Alternatives: []Alternative{
			{Name: "fexit", Rank: 1, Programs: []Program{{Name: "typed", Section: "fexit/f", When: "full-path"}}},
			{Name: "kprobe", Rank: 2, Programs: []Program{
				{Name: "a_entry", Section: "kprobe/f"},
				{Name: "z_exit", Section: "kretprobe/f", Optional: true, Helpers: []string{"ktime_get_boot_ns", "map_lookup_elem"}},
			}},
		}},
	}, got)
	require.False(t, got[0].Optional())
}

func TestGroupIsOptionalIfAllItsProgramsAre(t *testing.T) {
	one := []string{"hook:name/1/fentry", "optional"}
	got, err := parseGroups(map[string]*ebpf.ProgramSpec{"a": program("fentry/f", one), "b": program("kprobe/f", []string{"hook:name/2/kprobe", "optional"})})
	require.NoError(t, err)
	require.True(t, got[0].Optional())
	got, err = parseGroups(map[string]*ebpf.ProgramSpec{"a": program("fentry/f", one), "b": program("kprobe/f", []string{"hook:name/2/kprobe"})})
	require.NoError(t, err)
	require.False(t, got[0].Optional())
}

func TestHookRules(t *testing.T) {
	for _, test := range []struct {
		name     string
		programs map[string]*ebpf.ProgramSpec
		want     string
	}{
		{"no programs", nil, "object has no programs"},
		{"no instructions", map[string]*ebpf.ProgramSpec{"f": {}}, "program f: has no GADGET_HOOK("},
		{"no metadata", map[string]*ebpf.ProgramSpec{"f": {Instructions: asm.Instructions{asm.Return()}}}, "program f: has no GADGET_HOOK("},
		{"no hook", map[string]*ebpf.ProgramSpec{"f": program("x", []string{"optional"})}, "program f: has no GADGET_HOOK("},
		{"four parts", map[string]*ebpf.ProgramSpec{"f": program("x", []string{"hook:a/1/b/c"})}, "program f: has no GADGET_HOOK("},
		{"no alternative", map[string]*ebpf.ProgramSpec{"f": program("x", []string{"hook:a/1/"})}, "program f: has no GADGET_HOOK("},
		{"odd alternative", map[string]*ebpf.ProgramSpec{"f": program("x", []string{"hook:a/1/b=c"})}, "program f: has no GADGET_HOOK("},
		{"rank -1", map[string]*ebpf.ProgramSpec{"f": program("x", []string{"hook:a/-1/b"})}, `rank "-1" is not a number from 1 to 99`},
		{"rank 100", map[string]*ebpf.ProgramSpec{"f": program("x", []string{"hook:a/100/b"})}, `rank "100" is not a number from 1 to 99`},
		{"odd name", map[string]*ebpf.ProgramSpec{"f\n": program("x", []string{"hook:a/1/b"})}, "name is not a C name"},
		{"rank of two names", map[string]*ebpf.ProgramSpec{
			"f": program("x", []string{"hook:a/1/b"}), "g": program("x", []string{"hook:a/1/c"}),
		}, "program g: group a has rank 1 twice, as b and c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseGroups(test.programs)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestHelpersHaveTheKernelsNames(t *testing.T) {
	for fn, want := range map[asm.BuiltinFunc]string{
		asm.FnKtimeGetBootNs:     "ktime_get_boot_ns",
		asm.FnProbeReadKernelStr: "probe_read_kernel_str",
		asm.FnGetCurrentPidTgid:  "get_current_pid_tgid",
		asm.FnRingbufQuery:       "ringbuf_query",
		asm.FnDPath:              "d_path",
	} {
		require.Equal(t, want, helperName(fn))
	}
}

func TestProgramIsSplitIntoHookAndTarget(t *testing.T) {
	for section, want := range map[string][2]string{
		"tp_btf/sys_exit":                   {"tp_btf", "sys_exit"},
		"tracepoint/syscalls/sys_exit_bind": {"tracepoint", "syscalls/sys_exit_bind"},
		"iter":                              {"iter", ""},
		"":                                  {"", ""},
	} {
		p := Program{Section: section}
		require.Equal(t, want, [2]string{p.Hook(), p.Target()}, section)
	}
}

func TestNeedsListTheYoungestFeatureFirst(t *testing.T) {
	for _, test := range []struct {
		program Program
		want    []string
	}{
		{Program{Section: "raw_tp/x"}, []string{"global data (Linux 5.2)", "raw tracepoint (Linux 4.17)"}},
		{Program{Section: "kretprobe/x", Helpers: []string{"map_lookup_elem"}}, []string{"global data (Linux 5.2)", "kprobes (Linux 4.1)"}},
		{Program{Section: "fexit/x", Helpers: []string{"ktime_get_boot_ns"}}, []string{
			"helper ktime_get_boot_ns (Linux 5.8)", "BPF trampoline (Linux 5.5) with in-kernel BTF", "global data (Linux 5.2)",
		}},
		{Program{Section: "iter/task", Helpers: []string{"loop"}}, []string{
			"helper loop (Linux 5.17)", "BPF iterator (Linux 5.8) with in-kernel BTF", "global data (Linux 5.2)",
		}},
		{Program{Section: "unheard_of/x"}, []string{"global data (Linux 5.2)"}},
	} {
		var got []string
		for _, n := range test.program.Needs() {
			got = append(got, n.String())
		}
		require.Equal(t, test.want, got, test.program.Section)
	}
}

func TestNeedsOfAnAlternativeAreThoseOfAllItsPrograms(t *testing.T) {
	a := Alternative{Programs: []Program{
		{Section: "kprobe/f"}, {Section: "kretprobe/f", Helpers: []string{"get_func_ip"}},
	}}
	require.Equal(t, []Need{
		{Feature: "helper get_func_ip", Since: Release{5, 15}},
		{Feature: "global data", Since: Release{5, 2}},
		{Feature: "kprobes", Since: Release{4, 1}},
	}, a.Needs())
}

// TestEveryHookOfTheGadgetsHasANeed finds kinds of hooks that inspect would
// claim to work everywhere.
func TestEveryHookOfTheGadgetsHasANeed(t *testing.T) {
	for _, name := range objectNames(t) {
		for _, group := range parseObject(t, name, "x86_64").Spec.Groups {
			for _, alternative := range group.Alternatives {
				for _, p := range alternative.Programs {
					require.Contains(t, hookNeeds, p.Hook(), "%s: %s", name, p.Name)
				}
			}
		}
	}
}

// TestKernelBTFIsNeededWhereNoAlternativeDoesWithout, of what must be attached.
func TestKernelBTFIsNeededWhereNoAlternativeDoesWithout(t *testing.T) {
	alternative := func(programs ...Program) Alternative { return Alternative{Programs: programs} }
	typed, plain := Program{Section: "tp_btf/x"}, Program{Section: "raw_tp/x"}
	for _, test := range []struct {
		name         string
		alternatives []Alternative
		want         []string
	}{
		{"typed only", []Alternative{alternative(typed), alternative(Program{Section: "iter/task"})}, []string{"g"}},
		{"plain one too", []Alternative{alternative(typed), alternative(plain)}, nil},
		{"both in one", []Alternative{alternative(plain, typed)}, []string{"g"}},
		{"typed one is optional", []Alternative{alternative(plain, Program{Section: "fexit/x", Optional: true})}, nil},
		{"typed one is off by default", []Alternative{alternative(Program{Section: "fexit/x", When: "failed"})}, nil},
		{"optional group", []Alternative{alternative(Program{Section: "fexit/x", Optional: true})}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := Spec{Groups: []Group{{Name: "g", Alternatives: test.alternatives}}}
			require.Equal(t, test.want, spec.NeedsKernelBTF())
		})
	}
}

// TestVisitsTasks: of the built-in gadgets, and of others that could be.
func TestVisitsTasks(t *testing.T) {
	for _, name := range objectNames(t) {
		spec := parseObject(t, name, "x86_64").Spec
		require.Equal(t, name == "snapshot_process", spec.VisitsTasks(), name)
	}
	for section, want := range map[string]bool{
		"iter/task": true, "iter/task_file": true, "iter/task_vma": true, "iter/bpf_map": false, "tp_btf/task": false,
	} {
		spec := Spec{Groups: []Group{{Alternatives: []Alternative{{Programs: []Program{{Section: "raw_tp/x"}, {Section: section}}}}}}}
		require.Equal(t, want, spec.VisitsTasks(), section)
	}
}
