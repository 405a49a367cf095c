// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
)

// TestGadgetsAreCurrent wants the chart to know the gadgets that agents have.
func TestGadgetsAreCurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gadgets.yaml")
	require.NoError(t, run(path))
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	got, err := os.ReadFile("../../charts/nodegadget/files/gadgets.yaml")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run make generate")
}

// TestEntries: the expressions that read them are tested where they are, in charts.
func TestEntries(t *testing.T) {
	for want, p := range map[string]gadget.Param{
		`{'is': 'boolean', 'want': 'true or false'}`: {Kind: gadget.Bool, Size: 1},
		`{'is': 'name', 'names': 'us ms', 'want': 'one of us, MS'}`: {
			Kind: gadget.Enum, Values: []gadget.EnumValue{{Name: "us"}, {Name: "MS", Value: 1}},
		},
		`{'is': 'text', 'bytes': '15', 'want': 'a text of at most 15 bytes'}`: {Kind: gadget.String, Size: 16},

		`{'is': 'number', 'least': '0', 'most': '255', 'want': 'a number from 0 to 255'}`:                      {Kind: gadget.Uint, Size: 1},
		`{'is': 'number', 'least': '-32768', 'most': '32767', 'want': 'a number from -32768 to 32767'}`:        {Kind: gadget.Int, Size: 2},
		`{'is': 'number', 'least': '-5', 'most': '5', 'want': 'a number from -5 to 5'}`:                        {Kind: gadget.Int, Size: 8, Min: -5, Max: 5},
		`{'is': 'number', 'least': '0', 'want': 'a number from 0'}`:                                            {Kind: gadget.Uint, Size: 8},
		`{'is': 'number', 'want': 'a number'}`:                                                                 {Kind: gadget.Int, Size: 8},
		`{'is': 'number', 'least': '1', 'want': 'a number from 1'}`:                                            {Kind: gadget.Uint, Size: 8, Min: 1, Max: 1 << 60},
		`{'is': 'number', 'most': '3', 'want': 'a number up to 3'}`:                                            {Kind: gadget.Int, Size: 8, Min: -1 << 60, Max: 3},
		`{'is': 'boolean', 'values': '2', 'want': 'at most 2 values with commas between, each true or false'}`: {Kind: gadget.Bool, Size: 1, List: true, Count: 2},
	} {
		require.Equal(t, want, entry(p))
	}
	require.Equal(t, `'it\'s \\'`, quote(`it's \`))
}

// TestGadgetWithoutParameters wants an expression all the same.
func TestGadgetWithoutParameters(t *testing.T) {
	for _, v := range variables([]*gadget.Spec{{Name: "trace_x", Source: gadget.Source{Kind: gadget.Events}}}) {
		switch v.Name {
		case "periodic":
			require.Equal(t, "[\n\n]", v.Expression)
		case "listed":
			require.Equal(t, "{\n'trace_x': ''\n}", v.Expression)
		case "gadgets":
			require.Equal(t, "{\n'trace_x': {\n  \n}\n}", v.Expression)
		}
	}
}
