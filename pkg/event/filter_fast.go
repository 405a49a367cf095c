// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"cmp"
	"math"

	"github.com/google/cel-go/common/ast"
)

// mirrored are the comparisons with their sides exchanged.
var mirrored = map[string]string{
	"_==_": "_==_", "_!=_": "_!=_", "_<_": "_>_", "_<=_": "_>=_", "_>_": "_<_", "_>=_": "_<=_",
}

// fastTerm compiles a comparison of a column with a constant, or returns nil.
func fastTerm(tree *ast.AST, expr ast.Expr, columns map[string]*Column) func([]byte) bool {
	if c := column(tree, expr, columns); c != nil && c.Kind == Bool {
		return func(record []byte) bool { return c.Value(record).Uint() != 0 }
	}
	if expr.Kind() != ast.CallKind {
		return nil
	}
	call := expr.AsCall()
	if call.IsMemberFunction() {
		return textCall(tree, call, columns)
	}
	args := call.Args()
	op := call.FunctionName()
	if op == "!_" {
		if c := column(tree, args[0], columns); c != nil && c.Kind == Bool {
			return func(record []byte) bool {
				v := c.Value(record)
				return v.Kind == Bool && v.Uint() == 0
			}
		}
		return nil
	}
	if mirrored[op] == "" || len(args) != 2 {
		return nil
	}
	c, constant := column(tree, args[0], columns), args[1]
	if c == nil {
		c, constant, op = column(tree, args[1], columns), args[0], mirrored[op]
	}
	if c == nil || constant.Kind() != ast.LiteralKind {
		return nil
	}
	switch literal := constant.AsLiteral().Value().(type) {
	case int64:
		return numberTerm(c, op, literal)
	case string:
		return textTerm(c, op, []byte(literal))
	}
	return nil
}

// column returns the column that expr names. The checker has resolved names with
// dots in them; those of plain variables it keeps in the expression.
func column(tree *ast.AST, expr ast.Expr, columns map[string]*Column) *Column {
	if ref, ok := tree.ReferenceMap()[expr.ID()]; ok && ref.Name != "" {
		return columns[ref.Name]
	}
	if expr.Kind() == ast.IdentKind {
		return columns[expr.AsIdent()]
	}
	return nil
}

func numberTerm(c *Column, op string, literal int64) func([]byte) bool {
	if c.Kind != Int && c.Kind != Uint {
		return nil
	}
	holds := holds(op)
	return func(record []byte) bool {
		v := c.Value(record)
		switch {
		case v.Kind == Uint && v.Uint() > math.MaxInt64:
			return holds(1)
		case v.Kind == Null:
			return false
		}
		return holds(cmp.Compare(v.Int(), literal))
	}
}

func textTerm(c *Column, op string, literal []byte) func([]byte) bool {
	if c.Kind != Text {
		return nil
	}
	holds := holds(op)
	return func(record []byte) bool {
		v := c.Value(record)
		return v.Kind == Text && holds(bytes.Compare(v.Text, literal))
	}
}

// holds says for which signs of a comparison the operator is true.
func holds(op string) func(sign int) bool {
	switch op {
	case "_==_":
		return func(sign int) bool { return sign == 0 }
	case "_!=_":
		return func(sign int) bool { return sign != 0 }
	case "_<_":
		return func(sign int) bool { return sign < 0 }
	case "_<=_":
		return func(sign int) bool { return sign <= 0 }
	case "_>_":
		return func(sign int) bool { return sign > 0 }
	}
	return func(sign int) bool { return sign >= 0 }
}

// textCall compiles column.startsWith("…") and its like.
func textCall(tree *ast.AST, call ast.CallExpr, columns map[string]*Column) func([]byte) bool {
	tests := map[string]func(text, literal []byte) bool{
		"startsWith": bytes.HasPrefix, "endsWith": bytes.HasSuffix, "contains": bytes.Contains,
	}
	test, args := tests[call.FunctionName()], call.Args()
	c := column(tree, call.Target(), columns)
	if test == nil || c == nil || c.Kind != Text || len(args) != 1 || args[0].Kind() != ast.LiteralKind {
		return nil
	}
	text, ok := args[0].AsLiteral().Value().(string)
	if !ok {
		return nil
	}
	literal := []byte(text)
	return func(record []byte) bool {
		v := c.Value(record)
		return v.Kind == Text && test(v.Text, literal)
	}
}
