// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"cmp"
	"fmt"
	"slices"
)

// Need is a feature of the kernel that a program can't do without.
type Need struct {
	// Feature is in the kernel's terms: "BPF trampoline", "helper ktime_get_boot_ns".
	Feature string
	// Since is the first Linux release that has it. Vendors backport.
	Since Release
	// BTF says that the kernel must carry its own BTF; bundled BTF doesn't help.
	BTF bool
}

// String is how inspect shows the need.
func (n Need) String() string {
	text := fmt.Sprintf("%s (Linux %d.%d)", n.Feature, n.Since.Major, n.Since.Minor)
	if n.BTF {
		text += " with in-kernel BTF"
	}
	return text
}

// Release is the upstream release number of a kernel.
type Release struct{ Major, Minor int }

func (r Release) compare(other Release) int {
	return cmp.Or(cmp.Compare(r.Major, other.Major), cmp.Compare(r.Minor, other.Minor))
}

// hookNeeds are the kernel's releases by kind of hook.
var hookNeeds = map[string]Need{
	"tp_btf":         {Feature: "BTF-typed raw tracepoint", Since: Release{5, 5}, BTF: true},
	"fentry":         {Feature: "BPF trampoline", Since: Release{5, 5}, BTF: true},
	"fexit":          {Feature: "BPF trampoline", Since: Release{5, 5}, BTF: true},
	"iter":           {Feature: "BPF iterator", Since: Release{5, 8}, BTF: true},
	"raw_tp":         {Feature: "raw tracepoint", Since: Release{4, 17}},
	"raw_tracepoint": {Feature: "raw tracepoint", Since: Release{4, 17}},
	"kprobe":         {Feature: "kprobes", Since: Release{4, 1}},
	"kretprobe":      {Feature: "kprobes", Since: Release{4, 1}},
	"tracepoint":     {Feature: "tracepoint program", Since: Release{4, 7}},
	"tp":             {Feature: "tracepoint program", Since: Release{4, 7}},
}

// taskIterators are the targets of iterators that go over tasks.
var taskIterators = []string{"task", "task_file", "task_vma"}

// globalData is needed by every gadget: its parameters are constants in .rodata.
var globalData = Need{Feature: "global data", Since: Release{5, 2}}

// helperNeeds are helpers younger than global data. The ring buffer's are not
// among them: without it the perf buffer is used.
var helperNeeds = map[string]Release{
	"probe_read_user": {5, 5}, "probe_read_kernel": {5, 5},
	"probe_read_user_str": {5, 5}, "probe_read_kernel_str": {5, 5},
	"ktime_get_boot_ns": {5, 8}, "seq_write": {5, 8}, "get_current_task_btf": {5, 11},
	"task_storage_get": {5, 11}, "get_func_ip": {5, 15}, "loop": {5, 17},
}

// Needs lists what the program asks of the kernel, the youngest feature first.
func (p Program) Needs() []Need {
	needs := []Need{globalData}
	if need, ok := hookNeeds[p.Hook()]; ok {
		needs = append(needs, need)
	}
	for _, helper := range p.Helpers {
		if since, ok := helperNeeds[helper]; ok {
			needs = append(needs, Need{Feature: "helper " + helper, Since: since})
		}
	}
	slices.SortStableFunc(needs, func(a, b Need) int { return b.Since.compare(a.Since) })
	return needs
}

// Needs is what all programs of the alternative that must be there ask for: the
// union, the youngest feature first.
func (a Alternative) Needs() []Need {
	var needs []Need
	for _, p := range a.Programs {
		for _, n := range p.Needs() {
			if !slices.Contains(needs, n) {
				needs = append(needs, n)
			}
		}
	}
	slices.SortStableFunc(needs, func(a, b Need) int { return b.Since.compare(a.Since) })
	return needs
}

// NeedsKernelBTF says whether the alternative can't be attached on a kernel that
// carries no BTF of its own, whatever BTF is brought along.
func (a Alternative) NeedsKernelBTF() bool {
	return slices.ContainsFunc(a.Programs, func(p Program) bool { return !p.Optional && p.When == "" && hookNeeds[p.Hook()].BTF })
}

// NeedsKernelBTF names the groups without which the gadget can't run and of which
// every alternative needs a kernel that carries its own BTF.
func (s *Spec) NeedsKernelBTF() []string {
	var groups []string
	for _, group := range s.Groups {
		if !group.Optional() && !slices.ContainsFunc(group.Alternatives, func(a Alternative) bool { return !a.NeedsKernelBTF() }) {
			groups = append(groups, group.Name)
		}
	}
	return groups
}

// VisitsTasks says whether records come from an iterator over tasks, their files or their
// memory. The kernel shows one no processes outside of the PID namespace of who reads it.
func (s *Spec) VisitsTasks() bool {
	for _, group := range s.Groups {
		for _, alternative := range group.Alternatives {
			for _, p := range alternative.Programs {
				if p.Hook() == "iter" && slices.Contains(taskIterators, p.Target()) {
					return true
				}
			}
		}
	}
	return false
}
