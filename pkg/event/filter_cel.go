// SPDX-License-Identifier: Apache-2.0

package event

import (
	"math"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"
)

// celType is the type that a column has in expressions. All numbers are CEL's
// int, so that users need not write 0u.
func celType(kind ValueKind) *cel.Type {
	switch kind {
	case Bool:
		return cel.BoolType
	case Text:
		return cel.StringType
	case List:
		return cel.ListType(cel.StringType)
	case Time:
		return cel.TimestampType
	case Slots:
		return cel.ListType(cel.IntType)
	}
	return cel.IntType
}

// activation resolves the variables of an expression to values of one record.
type activation struct {
	columns map[string]*Column
	record  []byte
}

// ResolveName is part of cel-go's interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	c, ok := a.columns[name]
	if !ok {
		return nil, false
	}
	v := c.Value(a.record)
	switch v.Kind {
	case Int:
		return types.Int(v.Int()), true
	case Uint:
		if v.Uint() > math.MaxInt64 {
			// CEL compares its numbers whatever their types.
			return types.Uint(v.Uint()), true
		}
		return types.Int(v.Int()), true
	case Bool:
		return types.Bool(v.Uint() != 0), true
	case Text:
		return types.String(v.Text), true
	case Time:
		return types.Timestamp{Time: time.Unix(0, v.Int()).UTC()}, true
	case List:
		var items []string
		for item := range v.Items() {
			items = append(items, string(item))
		}
		return items, true
	case Slots:
		counts := make([]int64, v.Len())
		for i := range counts {
			counts[i] = int64(min(v.Slot(i), math.MaxInt64))
		}
		return counts, true
	}
	// An error, not CEL's null, which is unequal to everything: what needs a value
	// that the record lacks has to fail.
	return types.NewErr("record has no %s", name), true
}

// Parent is part of cel-go's interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }
