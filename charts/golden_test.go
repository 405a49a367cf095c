// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden renders each file of values in testdata, and wants what stands beside it.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.values.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".values.yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			got := strings.Join(slices.DeleteFunc(manifests(render(t, kubeVersion, string(text))), isGenerated), "\n---\n") + "\n"
			golden := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got, "if this is meant: go test ./charts -update")
		})
	}
}

// isGenerated says whether a document is what generated files say, which config/crd and
// config/admission show once.
func isGenerated(document string) bool {
	return strings.Contains(document, "\nkind: CustomResourceDefinition\n") || strings.Contains(document, "\nkind: ValidatingAdmissionPolicy\n")
}
