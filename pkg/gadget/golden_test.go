// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// objectNames lists the built-in gadgets by the folders that hold them.
func objectNames(tb testing.TB) []string {
	tb.Helper()
	paths, err := filepath.Glob("../../gadgets/*/gadget.x86_64.o")
	require.NoError(tb, err)
	require.NotEmpty(tb, paths, "no objects: run make objects")
	var names []string
	for _, path := range paths {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	return names
}

func readObject(tb testing.TB, name, arch string) []byte {
	tb.Helper()
	object, err := os.ReadFile(filepath.Join("../../gadgets", name, "gadget."+arch+".o"))
	require.NoError(tb, err)
	return object
}

func parseObject(tb testing.TB, name, arch string) *Object {
	tb.Helper()
	object, err := Parse(readObject(tb, name, arch))
	require.NoError(tb, err)
	return object
}

// TestSpecsOfBuiltInGadgets compares them with testdata/<name>.json; -update
// writes those. A difference is either a mistake or a change that users see.
func TestSpecsOfBuiltInGadgets(t *testing.T) {
	for _, name := range objectNames(t) {
		t.Run(name, func(t *testing.T) {
			spec := parseObject(t, name, "x86_64").Spec
			require.Equal(t, name, spec.Name, "folder and gadget have different names")
			got, err := json.MarshalIndent(spec, "", "  ")
			require.NoError(t, err)
			got = append(got, '\n')
			golden := filepath.Join("testdata", name+".json")
			if *update {
				require.NoError(t, os.WriteFile(golden, got, 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err, "run go test -update")
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("spec changed (-golden +parsed); go test -update accepts it:\n%s", diff)
			}
		})
	}
}

// TestGoldenFilesHaveGadgets finds those that a removed gadget has left.
func TestGoldenFilesHaveGadgets(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	var names []string
	for _, name := range objectNames(t) {
		names = append(names, filepath.Join("testdata", name+".json"))
	}
	require.ElementsMatch(t, names, files)
}

// TestSpecIsTheSameForEveryArchitecture: clients show gadgets of nodes of
// another architecture. Only the instructions and relocations differ, which are
// in Object.Collection.
func TestSpecIsTheSameForEveryArchitecture(t *testing.T) {
	for _, name := range objectNames(t) {
		t.Run(name, func(t *testing.T) {
			amd64, arm64 := parseObject(t, name, "x86_64").Spec, parseObject(t, name, "arm64").Spec
			if diff := cmp.Diff(amd64, arm64); diff != "" {
				t.Errorf("specs differ (-x86_64 +arm64):\n%s", diff)
			}
		})
	}
}

func TestParseIsDeterministic(t *testing.T) {
	for _, name := range objectNames(t) {
		raw := readObject(t, name, "x86_64")
		before := bytes.Clone(raw)
		first, err := Parse(raw)
		require.NoError(t, err)
		for range 5 {
			again, err := Parse(raw)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(first.Spec, again.Spec), name)
		}
		require.Equal(t, before, raw, "Parse wrote to its input")
	}
}
