// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed matrix.yaml
var defaultMatrix []byte

// matrix is the parsed matrix.yaml.
type matrix struct {
	Memory  int      `yaml:"memory"` // MiB, of guests that do not ask for more
	CPUs    int      `yaml:"cpus"`
	Busybox source   `yaml:"busybox"`
	Kernels []kernel `yaml:"kernels"`
}

// kernel is one entry of the matrix.
type kernel struct {
	Name    string   `yaml:"name"`
	Arch    arch     `yaml:"arch"`
	Source  source   `yaml:",inline"`
	Memory  int      `yaml:"memory"`
	Cmdline string   `yaml:"cmdline"` // appended to the kernel command line
	Like    string   `yaml:"like"`    // the kernel (not the machine) of an earlier entry
	Build   string   `yaml:"build"`   // folder of the recipe, if the package is Linux' source
	BTF     btfState `yaml:"btf"`     // default: present
	Comment string   `yaml:"comment"`
}

// btfState says what a guest finds in /sys/kernel/btf.
type btfState string

const (
	btfPresent btfState = "present"
	btfHidden  btfState = "hidden" // nothing, but the kernel has its types
	btfNone    btfState = "none"   // nothing: the kernel was built without
)

func (b btfState) validate() error {
	switch b {
	case btfPresent, btfHidden, btfNone:
		return nil
	}
	return fmt.Errorf("btf is %q, want present, hidden or none", string(b))
}

// cacheName is what the package of the entry is remembered by.
func (k kernel) cacheName() string { return cmp.Or(k.Like, k.Name) }

// source says where a package comes from: the newest one whose name matches, of
// the first suite that has any.
type source struct {
	Suites  []string `yaml:"suites"`
	Package pattern  `yaml:"package"`
}

// pattern is a regular expression that is checked when the matrix is read.
type pattern struct{ *regexp.Regexp }

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *pattern) UnmarshalYAML(n *yaml.Node) error {
	re, err := regexp.Compile(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	p.Regexp = re
	return nil
}

// parseMatrix reads a matrix and refuses one that could not be run.
func parseMatrix(data []byte) (*matrix, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)

	var m matrix
	if err := dec.Decode(&m); err != nil {
		// The library writes a list; an error of ours is one line.
		return nil, fmt.Errorf("parsing matrix: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	if err := m.complete(); err != nil {
		return nil, fmt.Errorf("parsing matrix: %w", err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("parsing matrix: %w", err)
	}
	return &m, nil
}

// complete fills in defaults, and what an entry has from another one.
func (m *matrix) complete() error {
	earlier := make(map[string]kernel)
	for i := range m.Kernels {
		k := &m.Kernels[i]
		if k.Like != "" {
			like, ok := earlier[k.Like]
			if !ok || like.Like != "" {
				return fmt.Errorf("kernel %d (%q): like %q is no earlier kernel with a package", i+1, k.Name, k.Like)
			}
			if k.Arch != "" || k.Source.Suites != nil || k.Source.Package.Regexp != nil || k.Build != "" {
				return fmt.Errorf("kernel %d (%q): arch, suites, package and build are those of %q", i+1, k.Name, k.Like)
			}
			k.Arch, k.Source, k.Build = like.Arch, like.Source, like.Build
		}
		k.Memory = cmp.Or(k.Memory, m.Memory)
		k.BTF = cmp.Or(k.BTF, btfPresent)
		earlier[k.Name] = *k
	}
	return nil
}

func (m *matrix) validate() error {
	if m.Memory <= 0 || m.CPUs <= 0 {
		return errors.New("memory and cpus must be positive")
	}
	if err := m.Busybox.validate(); err != nil {
		return fmt.Errorf("busybox: %w", err)
	}
	if len(m.Kernels) == 0 {
		return errors.New("no kernels")
	}

	seen := make(map[string]bool)
	for i, k := range m.Kernels {
		if err := k.validate(); err != nil {
			return fmt.Errorf("kernel %d (%q): %w", i+1, k.Name, err)
		}
		if seen[k.Name] {
			return fmt.Errorf("kernel %d (%q): the name is taken", i+1, k.Name)
		}
		seen[k.Name] = true
	}
	return nil
}

// kernelName is what is safe as a file name.
var kernelName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)

func (k kernel) validate() error {
	if !kernelName.MatchString(k.Name) {
		return errors.New("name must be of a-z, 0-9, dot and dash")
	}
	if _, err := k.Arch.machine(); err != nil {
		return err
	}
	if k.Memory < 0 {
		return errors.New("memory must be positive")
	}
	if err := k.BTF.validate(); err != nil {
		return err
	}
	if k.Build != "" {
		if _, err := readRecipe(k.Build); err != nil {
			return err
		}
	}
	return k.Source.validate()
}

func (s source) validate() error {
	if len(s.Suites) == 0 {
		return errors.New("no suites")
	}
	if s.Package.Regexp == nil {
		return errors.New("no package")
	}
	return nil
}

// selected returns the kernels any of the names (shell patterns) matches and
// whose BTF is one of those given, in the order of the matrix. Without names and
// BTF it returns the kernels that have BTF and show it.
func (m *matrix) selected(names []string, states []btfState) ([]kernel, error) {
	if len(names) == 0 && len(states) == 0 {
		states = []btfState{btfPresent}
	}

	used := make(map[string]bool)
	var out []kernel
	for _, k := range m.Kernels {
		wanted := len(names) == 0
		for _, name := range names {
			if ok, err := path.Match(name, k.Name); ok && err == nil {
				wanted, used[name] = true, true
			}
		}
		if wanted && (len(states) == 0 || slices.Contains(states, k.BTF)) {
			out = append(out, k)
		}
	}
	for _, name := range names {
		if !used[name] {
			return nil, fmt.Errorf("no kernel %q in the matrix, see the list command", name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no kernel of the matrix has BTF %v and one of the names %q, see the list command", states, names)
	}
	return out, nil
}
