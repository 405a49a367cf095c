// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// For the tests on the corpus, which import what imports this package.

// BuiltinObjects are the gadgets of this repository.
func BuiltinObjects(tb testing.TB) []Object { return builtin(tb) }

// SyntheticObject has relocations of every kind.
func SyntheticObject(tb testing.TB) Object { return testObject(tb, "bpfel") }

// NewComparison returns a function that relocates all programs against two
// kernels' types, and tells the first difference and how many relocations there
// were. It may be used by several goroutines.
func NewComparison(tb testing.TB, objects []Object) func(one, other []byte) (string, int) {
	all := loadAll(tb, objects)
	return func(one, other []byte) (string, int) {
		first, err := btf.LoadSpecFromReader(bytes.NewReader(one))
		if err != nil {
			return err.Error(), 0
		}
		second, err := btf.LoadSpecFromReader(bytes.NewReader(other))
		if err != nil {
			return err.Error(), 0
		}
		return difference(all, first, second)
	}
}
