// SPDX-License-Identifier: Apache-2.0

package print

import (
	"slices"
	"strings"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

// timestamp is the column that says when a record was made.
const timestamp = "timestamp"

// choice is a column to be shown: one of the schema's, or one text of the origin.
type choice struct {
	name   string
	column *event.Column
	// field is what the column was made from, nil for a readable twin.
	field  *gadget.Field
	origin int
}

// choose picks the columns of a mode. For JSON and YAML that are the schema's
// columns only, for they have the origin always.
func choose(schema *event.Schema, opts *Options) ([]choice, error) {
	object := opts.Mode == JSON || opts.Mode == YAML
	var chosen []choice
	if len(opts.Fields) > 0 {
		return chooseFields(schema, opts.Fields, object)
	}
	if opts.Kubernetes && !object {
		for i, name := range originNames[:4] {
			chosen = append(chosen, choice{name: name, origin: i})
		}
	}
	var placed bool
	outer := target(&schema.Source) + "."
	for _, c := range schema.Columns {
		// Where the target is stands beside what else is known of it.
		if opts.Kubernetes && !placed && strings.HasPrefix(c.Name, outer) {
			chosen = append(chosen, chooseTarget(schema, opts.Mode)...)
			placed = true
		}
		if object || !c.Raw && (opts.Mode == Wide || !c.Hidden) {
			chosen = append(chosen, newChoice(schema, c))
		}
	}
	if object {
		return timestampFirst(chosen), nil
	}
	return chosen, nil
}

// chooseTarget is what a mode shows of where the target is: in columns only the pod.
func chooseTarget(schema *event.Schema, mode Mode) []choice {
	var chosen []choice
	for _, name := range targetNames(&schema.Source) {
		i, _ := originIndex(&schema.Source, name)
		_, err := schema.Column(name)
		if err != nil && (mode != Columns || originNames[i-targetOrigins] == "pod") {
			chosen = append(chosen, choice{name: name, origin: i})
		}
	}
	return chosen
}

func chooseFields(schema *event.Schema, fields []string, object bool) ([]choice, error) {
	var chosen []choice
	for _, name := range fields {
		c, err := schema.Column(name)
		// A field can't pass for where the record was made.
		if i, ok := originIndex(&schema.Source, name); ok && (i < targetOrigins || err != nil) {
			if !object || i >= targetOrigins {
				chosen = append(chosen, choice{name: name, origin: i})
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, newChoice(schema, c))
	}
	if !object {
		return chosen, nil
	}
	if c, err := schema.Column(timestamp); err == nil && c.Kind == event.Time {
		chosen = append(chosen, newChoice(schema, c))
	}
	chosen = timestampFirst(chosen)
	unique := chosen[:0]
	for _, c := range chosen {
		if !slices.Contains(unique, c) {
			unique = append(unique, c)
		}
	}
	return unique, nil
}

func newChoice(schema *event.Schema, c *event.Column) choice {
	chosen := choice{name: c.Name, column: c}
	for i := range schema.Source.Fields {
		if schema.Source.Fields[i].Name == c.Name {
			chosen.field = &schema.Source.Fields[i]
		}
	}
	return chosen
}

func timestampFirst(chosen []choice) []choice {
	slices.SortStableFunc(chosen, func(a, b choice) int {
		return b.whether(timestamp) - a.whether(timestamp)
	})
	return chosen
}

// whether is 1 for the Time column of the name.
func (c *choice) whether(name string) int {
	if c.name == name && c.column != nil && c.column.Kind == event.Time {
		return 1
	}
	return 0
}

// log2 says whether the choice is drawn as a histogram.
func (c *choice) log2() bool {
	return c.column != nil && c.column.Kind == event.Slots && c.column.Semantic == gadget.Log2
}

func hasHistogram(chosen []choice) bool {
	return slices.ContainsFunc(chosen, func(c choice) bool { return c.log2() })
}
