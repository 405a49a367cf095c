// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"regexp"
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
	Name    string `yaml:"name"`
	Arch    arch   `yaml:"arch"`
	Source  source `yaml:",inline"`
	Memory  int    `yaml:"memory"`
	Cmdline string `yaml:"cmdline"`  // appended to the kernel command line
	HideBTF bool   `yaml:"hide_btf"` // user space finds no /sys/kernel/btf/vmlinux
	Comment string `yaml:"comment"`
}

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
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("parsing matrix: %w", err)
	}

	for i := range m.Kernels {
		if m.Kernels[i].Memory == 0 {
			m.Kernels[i].Memory = m.Memory
		}
	}
	return &m, nil
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

// selected returns the kernels any of the names (shell patterns) matches, all of
// them without names, in the order of the matrix.
func (m *matrix) selected(names []string) ([]kernel, error) {
	if len(names) == 0 {
		return m.Kernels, nil
	}

	used := make(map[string]bool)
	var out []kernel
	for _, k := range m.Kernels {
		wanted := false
		for _, name := range names {
			if ok, err := path.Match(name, k.Name); ok && err == nil {
				wanted, used[name] = true, true
			}
		}
		if wanted {
			out = append(out, k)
		}
	}
	for _, name := range names {
		if !used[name] {
			return nil, fmt.Errorf("no kernel %q in the matrix, see the list command", name)
		}
	}
	return out, nil
}
