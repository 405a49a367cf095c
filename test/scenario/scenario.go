// SPDX-License-Identifier: Apache-2.0

// Package scenario reads the gadgets' own tests, scenario.yaml: a script, and
// CEL expressions that must hold for the records that it causes. Running the
// script and tracing it is left to the test, because it happens on the host, in
// a virtual machine or in a pod.
package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"go.yaml.in/yaml/v3"

	"nodegadget.dev/pkg/event"
)

// Scenario is one case.
type Scenario struct {
	// Name says what is shown.
	Name string `yaml:"name"`
	// Params are the gadget's parameters.
	Params map[string]string `yaml:"params"`
	// Machine says that it is about the whole machine: tracing only the container that
	// runs the script shows something else.
	Machine bool `yaml:"machine"`
	// Script is run by /bin/sh -e.
	Script string        `yaml:"script"`
	Expect []Expectation `yaml:"expect"`
}

// Expectation is about the number of records for which an expression is true.
type Expectation struct {
	Match string `yaml:"match"`
	// Count is the exact number, if it is given.
	Count *int `yaml:"count"`
	// Min is the least number otherwise; 0 means 1.
	Min int `yaml:"min"`
}

// Load reads the scenarios of a gadget from a file system with
// "<gadget>/scenario.yaml".
func Load(files fs.FS, gadget string) ([]Scenario, error) {
	text, err := fs.ReadFile(files, gadget+"/scenario.yaml")
	if err != nil {
		return nil, err
	}
	var scenarios []Scenario
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&scenarios); err != nil {
		return nil, fmt.Errorf("%s/scenario.yaml: %w", gadget, err)
	}
	for _, s := range scenarios {
		if s.Name == "" || s.Script == "" || len(s.Expect) == 0 {
			return nil, fmt.Errorf("%s/scenario.yaml: scenario %q lacks a name, a script or expectations", gadget, s.Name)
		}
	}
	return scenarios, nil
}

// Expand replaces ${NAME} by values[NAME], in a script or an expression.
func Expand(text string, values map[string]string) string {
	for name, value := range values {
		text = strings.ReplaceAll(text, "${"+name+"}", value)
	}
	return text
}

// Check evaluates the expectations. Its error names each that does not hold, and
// how often it matched.
func (s *Scenario) Check(schema *event.Schema, records [][]byte, values map[string]string) error {
	var errs []error
	for _, expect := range s.Expect {
		filter, err := event.CompileFilter(schema, Expand(expect.Match, values))
		if err != nil {
			return fmt.Errorf("scenario %q: %w", s.Name, err)
		}
		matched := 0
		for _, record := range records {
			if filter.Match(record) {
				matched++
			}
		}
		switch {
		case expect.Count != nil && matched != *expect.Count:
			errs = append(errs, fmt.Errorf("%d records match, want %d: %s", matched, *expect.Count, Expand(expect.Match, values)))
		case expect.Count == nil && matched < max(expect.Min, 1):
			errs = append(errs, fmt.Errorf("%d records match, want at least %d: %s", matched, max(expect.Min, 1), Expand(expect.Match, values)))
		}
	}
	return errors.Join(errs...)
}
