// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// parseGroups sorts programs into groups and alternatives by their hook tags.
func parseGroups(programs map[string]*ebpf.ProgramSpec) ([]Group, error) {
	if len(programs) == 0 {
		return nil, errors.New("object has no programs")
	}
	var groups []Group
	for _, name := range sortedKeys(programs) {
		program, hook, err := parseProgram(name, programs[name])
		if err != nil {
			return nil, fmt.Errorf("program %s: %w", name, err)
		}
		if groups, err = place(groups, program, hook); err != nil {
			return nil, fmt.Errorf("program %s: %w", name, err)
		}
	}
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	for _, group := range groups {
		slices.SortFunc(group.Alternatives, func(a, b Alternative) int { return cmp.Compare(a.Rank, b.Rank) })
	}
	return groups, nil
}

// hookTag is what GADGET_HOOK(group, rank, name) says.
type hookTag struct {
	group, alternative string
	rank               int
}

func parseProgram(name string, spec *ebpf.ProgramSpec) (Program, hookTag, error) {
	var raw []string
	if len(spec.Instructions) > 0 {
		if fn := btf.FuncMetadata(&spec.Instructions[0]); fn != nil {
			raw = fn.Tags
		}
	}
	if !symbolPattern.MatchString(name) {
		return Program{}, hookTag{}, errors.New("name is not a C name")
	}
	tags := parseTags(raw)
	parts := strings.Split(tags.value("hook"), "/")
	if len(parts) != 3 || !fieldPattern.MatchString(parts[0]) || !fieldPattern.MatchString(parts[2]) {
		return Program{}, hookTag{}, errors.New("has no GADGET_HOOK(group, rank, name), with names in lower case")
	}
	rank, err := strconv.Atoi(parts[1])
	if err != nil || rank < 1 || rank > 99 {
		return Program{}, hookTag{}, fmt.Errorf("rank %q is not a number from 1 to 99", parts[1])
	}
	program := Program{
		Name:     name,
		Section:  clean(spec.SectionName),
		Optional: tags.has("optional"),
		When:     flagName(tags.value("when")),
		Helpers:  helpers(spec.Instructions),
	}
	return program, hookTag{group: parts[0], alternative: parts[2], rank: rank}, nil
}

func place(groups []Group, program Program, hook hookTag) ([]Group, error) {
	g := slices.IndexFunc(groups, func(g Group) bool { return g.Name == hook.group })
	if g < 0 {
		groups = append(groups, Group{Name: hook.group})
		g = len(groups) - 1
	}
	alternatives := groups[g].Alternatives
	a := slices.IndexFunc(alternatives, func(a Alternative) bool { return a.Rank == hook.rank })
	if a < 0 {
		groups[g].Alternatives = append(alternatives, Alternative{Name: hook.alternative, Rank: hook.rank, Programs: []Program{program}})
		return groups, nil
	}
	if alternatives[a].Name != hook.alternative {
		return nil, fmt.Errorf("group %s has rank %d twice, as %s and %s", hook.group, hook.rank, alternatives[a].Name, hook.alternative)
	}
	alternatives[a].Programs = append(alternatives[a].Programs, program)
	return groups, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// helpers lists the helper functions that the instructions call.
func helpers(instructions asm.Instructions) []string {
	names := map[string]bool{}
	for i := range instructions {
		if ins := &instructions[i]; ins.IsBuiltinCall() {
			names[helperName(asm.BuiltinFunc(ins.Constant))] = true
		}
	}
	return sortedKeys(names)
}

// helperName turns the library's FnKtimeGetBootNs into the kernel's ktime_get_boot_ns.
func helperName(fn asm.BuiltinFunc) string {
	var name []byte
	for i, r := range strings.TrimPrefix(fn.String(), "Fn") {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				name = append(name, '_')
			}
			r += 'a' - 'A'
		}
		name = append(name, string(r)...)
	}
	return string(name)
}
