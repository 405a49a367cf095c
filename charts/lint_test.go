// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"sigs.k8s.io/yaml"
)

// TestLint is `helm lint --strict` with each file of values.
func TestLint(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.values.yaml")
	require.NoError(t, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var own map[string]any
		require.NoError(t, yaml.Unmarshal(text, &own))
		lint := action.NewLint()
		lint.Strict, lint.Namespace = true, "nodegadget"
		result := lint.Run([]string{"nodegadget"}, own)
		require.Equal(t, 1, result.TotalChartsLinted)
		require.Empty(t, result.Errors, path)
		for _, message := range result.Messages {
			require.LessOrEqual(t, message.Severity, support.InfoSev, "%s: %v", path, message)
		}
	}
}
