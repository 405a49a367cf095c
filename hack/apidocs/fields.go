// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

type schema = apiextensionsv1.JSONSchemaProps

// field is a row of the reference.
type field struct{ path, kind, meaning string }

// fieldsOf are the fields of a resource, those that contain others before them.
func fieldsOf(root *schema) []field {
	var all []field
	var walk func(s *schema, path string)
	walk = func(s *schema, path string) {
		for _, name := range order(s) {
			property := s.Properties[name]
			at := strings.TrimPrefix(path+"."+name, ".")
			if at == "apiVersion" || at == "kind" || at == "metadata" {
				continue
			}
			all = append(all, field{at, kindOf(&property), meaning(&property, slices.Contains(s.Required, name))})
			switch {
			case isKnown(&property):
			case property.Items != nil && property.Items.Schema != nil:
				walk(property.Items.Schema, at+"[]")
			default:
				walk(&property, at)
			}
		}
	}
	walk(root, "")
	return all
}

// order are the names of properties: required ones first.
func order(s *schema) []string {
	names := slices.Sorted(maps.Keys(s.Properties))
	slices.SortStableFunc(names, func(a, b string) int {
		return rank(s, a) - rank(s, b)
	})
	return names
}

func rank(s *schema, name string) int {
	if slices.Contains(s.Required, name) {
		return 0
	}
	return 1
}

// isKnown says whether a type is one of Kubernetes' own, of which nothing is told.
func isKnown(s *schema) bool { return knownType(s) != "" }

func knownType(s *schema) string {
	if _, ok := s.Properties["matchExpressions"]; ok {
		return "label selector"
	}
	if s.Items != nil && s.Items.Schema != nil {
		if _, ok := s.Items.Schema.Properties["lastTransitionTime"]; ok {
			return "conditions"
		}
	}
	return ""
}

// kindOf is a field's type in words.
func kindOf(s *schema) string {
	switch known := knownType(s); {
	case known != "":
		return known
	case s.XIntOrString:
		return "size"
	case s.Format == "date-time":
		return "date"
	case s.Format == "byte":
		return "bytes, base64"
	case isDuration(s):
		return "time"
	case s.Type == "array":
		return "list of " + kindOf(s.Items.Schema)
	case s.Type == "object" && s.AdditionalProperties != nil:
		return "map to " + kindOf(s.AdditionalProperties.Schema)
	}
	return s.Type
}

func isDuration(s *schema) bool {
	return s.Type == "string" && strings.Contains(s.Pattern, "(ns|us|ms|s|m|h)")
}

// meaning is what a field means, and what an API server wants of it.
func meaning(s *schema, required bool) string {
	var parts []string
	if required {
		parts = append(parts, "**Required.**")
	}
	parts = append(parts, oneLine(s.Description))
	if isKnown(s) {
		return strings.Join(append(parts, rules(s)...), " ")
	}
	var bounds []string
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, strings.Trim(string(v.Raw), `"`))
		}
		bounds = append(bounds, "one of "+strings.Join(values, ", "))
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		bounds = append(bounds, fmt.Sprintf("%d to %d", int64(*s.Minimum), int64(*s.Maximum)))
	case s.MaxItems != nil:
		bounds = append(bounds, fmt.Sprintf("at most %d", *s.MaxItems))
	case s.MaxProperties != nil:
		bounds = append(bounds, fmt.Sprintf("at most %d", *s.MaxProperties))
	case s.MaxLength != nil && !isDuration(s):
		bounds = append(bounds, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	if s.Pattern != "" && !isDuration(s) && !s.XIntOrString {
		bounds = append(bounds, "matches `"+s.Pattern+"`")
	}
	if len(bounds) > 0 {
		parts = append(parts, strings.ToUpper(bounds[0][:1])+strings.Join(bounds, ", ")[1:]+".")
	}
	return strings.Join(append(parts, rules(s)...), " ")
}

// rules are what the rules of a field say when they aren't kept.
func rules(s *schema) []string {
	var all []string
	for _, rule := range s.XValidations {
		all = append(all, strings.ToUpper(rule.Message[:1])+rule.Message[1:]+".")
	}
	return all
}
