// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/session"
)

// TestSamples wants each sample to be what the API server takes and the gadget
// understands, and to say what it is for.
func TestSamples(t *testing.T) {
	paths, err := filepath.Glob("../../../config/samples/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(paths), 6)
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "x86_64")
	require.NoError(t, err)
	all := judges(t)
	kinds := make(map[string]int)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(text), "# "))
			kind := "TraceSession"
			if strings.Contains(string(text), "\nkind: ClusterTraceSession\n") {
				kind = "ClusterTraceSession"
			}
			kinds[kind]++
			object, unknown := all[kind].read(t, string(text))
			require.Empty(t, unknown)
			require.Empty(t, all[kind].errors(t, object, nil))
			u := &unstructured.Unstructured{Object: object}
			require.Equal(t, strings.TrimSuffix(filepath.Base(path), ".yaml"), u.GetName())
			s, err := session.Decode(u)
			require.NoError(t, err)
			runs, err := catalog.Object(s.Spec.Gadget.Name)
			require.NoError(t, err)
			require.Empty(t, session.Check(&s, &runs.Spec))
		})
	}
	require.Len(t, kinds, 2)
}
