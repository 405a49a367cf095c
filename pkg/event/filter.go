// SPDX-License-Identifier: Apache-2.0

package event

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
)

const (
	// MaxFilter bounds the text of a filter in bytes.
	MaxFilter = 4096
	// filterCost bounds the work of one evaluation, in CEL's units.
	filterCost = 100_000
)

// Filter is a CEL expression over the columns of a schema. It isn't safe for
// concurrent use, because the schema isn't.
//
// The expression is taken apart at its topmost &&: comparisons of a column with
// a constant become comparisons of the record's bytes, and only what is left is
// evaluated by CEL, on records that passed the others.
type Filter struct {
	fast []func(record []byte) bool
	rest cel.Program
	vars *activation
}

// CompileFilter checks expr against the schema. Its errors are meant for the
// user who wrote it: an unknown field's error lists the known ones.
func CompileFilter(schema *Schema, expr string) (*Filter, error) {
	if len(expr) > MaxFilter {
		return nil, fmt.Errorf("filter has %d bytes, at most %d are allowed", len(expr), MaxFilter)
	}
	env, err := newEnv(schema)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	checked, issues := env.Compile(expr)
	if issues.Err() != nil {
		return nil, filterError(schema, expr, issues.Err())
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("filter %q gives a %s, want true or false", expr, checked.OutputType())
	}
	f := &Filter{vars: &activation{columns: map[string]*Column{}}}
	for _, c := range schema.Columns {
		f.vars.columns[c.Name] = c
	}
	if f.split(checked.NativeRep(), checked.NativeRep().Expr(), f.vars.columns) {
		return f, nil
	}
	if f.rest, err = env.Program(checked, cel.CostLimit(filterCost)); err != nil {
		return nil, fmt.Errorf("filter %q: %w", expr, err)
	}
	return f, nil
}

func newEnv(schema *Schema) (*cel.Env, error) {
	opts := []cel.EnvOption{cel.CrossTypeNumericComparisons(true)}
	for _, c := range schema.Columns {
		opts = append(opts, cel.Variable(c.Name, celType(c.Kind)))
	}
	return cel.NewEnv(opts...)
}

var undeclared = regexp.MustCompile(`undeclared reference to '([^']+)'`)

// filterError puts CEL's message, several lines with a marker, on one line.
func filterError(schema *Schema, expr string, err error) error {
	if m := undeclared.FindStringSubmatch(err.Error()); m != nil {
		if call := regexp.MustCompile(`\b` + regexp.QuoteMeta(m[1]) + `\s*\(`); call.MatchString(expr) {
			return fmt.Errorf("filter: unknown function %q; CEL has contains, startsWith, endsWith, matches, size and others", m[1])
		}
		return fmt.Errorf("filter: unknown field %q, known are: %s", m[1], strings.Join(schema.Names(), ", "))
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New("filter: " + strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimPrefix(first, "ERROR: <input>:")))
}

// split collects the fast terms of a conjunction and says whether nothing is left.
func (f *Filter) split(tree *ast.AST, expr ast.Expr, columns map[string]*Column) bool {
	if expr.Kind() == ast.CallKind && expr.AsCall().FunctionName() == "_&&_" {
		args := expr.AsCall().Args()
		left := f.split(tree, args[0], columns)
		right := f.split(tree, args[1], columns)
		return left && right
	}
	if term := fastTerm(tree, expr, columns); term != nil {
		f.fast = append(f.fast, term)
		return true
	}
	return false
}

// Match says whether the record passes. A record that lacks a value that the
// expression needs doesn't.
func (f *Filter) Match(record []byte) bool {
	for _, term := range f.fast {
		if !term(record) {
			return false
		}
	}
	if f.rest == nil {
		return true
	}
	f.vars.record = record
	result, _, err := f.rest.Eval(f.vars)
	f.vars.record = nil
	return err == nil && result.Value() == true
}
