// SPDX-License-Identifier: Apache-2.0

// Package kernel finds the type information (BTF) of the running kernel, which
// CO-RE relocations are resolved against, makes sure that it is this kernel's,
// and remembers why it chose what it did.
//
// The order is: what the operator names, what the kernel carries itself, a
// vmlinux file where libbpf looks for it, a bundle of tailored BTF, a BTF service.
// All but the kernel's own types are checked with pkg/btf/witness. The package
// makes neither BTF nor bundles, and loads no gadgets.
package kernel

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/witness"
)

// SourceKind says where types come from.
type SourceKind string

// The sources, in the order in which they are tried. SameName is a bundle's
// kernel of the same name and architecture that is filed under another
// distribution or release.
const (
	Explicit SourceKind = "explicit"
	InKernel SourceKind = "in-kernel"
	OnDisk   SourceKind = "on-disk"
	Bundle   SourceKind = "bundle"
	SameName SourceKind = "bundle-same-name"
	Service  SourceKind = "service"
	// None says that there are no types.
	None SourceKind = "none"
)

// Types are the chosen types.
type Types struct {
	// Spec is nil for InKernel: the loader reads those itself, and only when needed.
	// Otherwise it has at least what the objects need that it was chosen for.
	Spec   *btf.Spec
	Source Source
}

// Source is the decision, to be shown to the operator.
type Source struct {
	Kind SourceKind `json:"kind"`
	// Path is the file, directory or URL that the types were read from.
	Path string `json:"path"`
	// Entry is the kernel's name there, zero for a file with one kernel's types.
	Entry layout.Kernel `json:"entry,omitzero"`
	// Tailored types came cut down to what some objects need; other programs may need more.
	Tailored bool `json:"tailored,omitempty"`
	// Release is the kernel that the types are for.
	Release string `json:"release"`
	// Proof says why they are this kernel's; empty for InKernel, which needs none.
	Proof string `json:"proof,omitempty"`
	// Testimony is what the check found, nil if there was none.
	Testimony *witness.Testimony `json:"testimony,omitempty"`
	// Tried are the places that had nothing, each with the reason.
	Tried []string `json:"tried,omitempty"`
}

// Place is the path, with the kernel's name in an archive.
func (s Source) Place() string {
	if s.Entry == (layout.Kernel{}) {
		return s.Path
	}
	return s.Path + ": " + s.Entry.String()
}

// String is one line for logs.
func (s Source) String() string {
	switch s.Kind {
	case "":
		return "kernel " + s.Release
	case None:
		return fmt.Sprintf("kernel %s: no BTF (tried %s)", s.Release, strings.Join(s.Tried, "; "))
	}
	line := fmt.Sprintf("kernel %s: BTF %s from %s", s.Release, s.Kind, s.Place())
	if s.Proof != "" {
		line += ", " + s.Proof
	}
	if len(s.Tried) > 0 {
		line += " (before that: " + strings.Join(s.Tried, "; ") + ")"
	}
	return line
}

// MarshalJSON writes the entry as its path in an archive.
func (s Source) MarshalJSON() ([]byte, error) {
	type plain Source
	var entry string
	if s.Entry != (layout.Kernel{}) {
		entry = s.Entry.String()
	}
	return json.Marshal(struct {
		plain
		Entry string `json:"entry,omitempty"`
	}{plain(s), entry})
}
