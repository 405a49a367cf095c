// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzParse gives Parse the built-in objects with changes, and whatever the
// fuzzer makes of them. cut and flip change an object where random bytes would
// rarely hit anything: its end, and one bit.
func FuzzParse(f *testing.F) {
	for _, name := range objectNames(f) {
		object := readObject(f, name, "x86_64")
		f.Add(object, uint32(0), uint32(0), byte(0))
		for i := range 8 {
			f.Add(object, uint32(i*len(object)/8), uint32(0), byte(0))
			f.Add(object, uint32(0), uint32(i*len(object)/8+i), byte(1<<i))
		}
	}
	f.Fuzz(func(t *testing.T, object []byte, cut, flip uint32, bits byte) {
		if len(object) > 0 {
			object = bytes.Clone(object[:len(object)-int(cut)%len(object)])
			object[int(flip)%len(object)] ^= bits
		}
		got, err := Parse(object)
		if err != nil {
			require.Nil(t, got)
			assertOneLine(t, err)
			return
		}
		require.NotNil(t, got.Collection)
		assertSound(t, &got.Spec)
	})
}

// assertSound checks what others rely on in every Spec that Parse returns.
func assertSound(tb testing.TB, spec *Spec) {
	tb.Helper()
	assert.NoError(tb, spec.CheckNames())
	assertPrintable(tb, spec.Description)
	assert.NotEmpty(tb, spec.Description)
	assert.Contains(tb, sourceKinds, spec.Source.Kind)
	assert.LessOrEqual(tb, spec.Source.Size, uint32(MaxRecordSize))
	assert.LessOrEqual(tb, spec.Source.KeySize, spec.Source.Size)
	assert.LessOrEqual(tb, len(spec.Source.Fields), MaxFields)
	assertPrintable(tb, spec.Source.Map)
	seen := map[string]bool{}
	for _, field := range spec.Source.Fields {
		assert.Regexp(tb, `^[a-z0-9_]+(\.[a-z0-9_]+){0,5}$`, field.Name)
		assert.False(tb, seen[field.Name], "field %s twice", field.Name)
		seen[field.Name] = true
		assert.LessOrEqual(tb, uint64(field.Offset)+uint64(field.Size), uint64(spec.Source.Size), field.Name)
		assert.NotZero(tb, field.Size, field.Name)
		assertPrintable(tb, field.Doc, string(field.Semantic))
		switch field.Kind {
		case Uint, Int, Enum, Bool:
			assert.Contains(tb, []uint32{1, 2, 4, 8}, field.Size, field.Name)
		case Slots:
			assert.Zero(tb, field.Size%field.Elem, field.Name)
		}
		assertValues(tb, field.Values)
	}
	for _, p := range spec.Params {
		assert.Equal(tb, p.Name, flagName(p.Variable()[len(paramPrefix):]))
		assert.Contains(tb, []Kind{Bool, Int, Uint, Enum, String}, p.Kind)
		assertPrintable(tb, p.Doc, p.Default)
		assertValues(tb, p.Values)
	}
	for _, group := range spec.Groups {
		assertPrintable(tb, group.Name)
		assert.NotEmpty(tb, group.Alternatives)
		for _, alternative := range group.Alternatives {
			assertPrintable(tb, alternative.Name)
			assert.NotEmpty(tb, alternative.Programs)
			for _, p := range alternative.Programs {
				assertPrintable(tb, p.Name, p.Section, p.When)
				assertPrintable(tb, p.Helpers...)
				p.Needs()
			}
		}
	}
}

func assertValues(tb testing.TB, values []EnumValue) {
	tb.Helper()
	for _, v := range values {
		assertPrintable(tb, v.Name)
	}
}

func assertPrintable(tb testing.TB, texts ...string) {
	tb.Helper()
	for _, text := range texts {
		assert.Equal(tb, clean(text), text)
	}
}

func TestBuiltInSpecsAreSound(t *testing.T) {
	for _, name := range objectNames(t) {
		assertSound(t, &parseObject(t, name, "arm64").Spec)
	}
}
