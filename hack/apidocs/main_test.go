// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReferenceIsCurrent wants docs/api.md to be what the definitions say now.
func TestReferenceIsCurrent(t *testing.T) {
	text, err := reference("../../charts/nodegadget/files/crds")
	require.NoError(t, err)
	committed, err := os.ReadFile("../../docs/api.md")
	require.NoError(t, err)
	require.Equal(t, text, string(committed), "run make generate")
}

// TestReferenceIsComplete wants every field to be explained, and bounds to be told.
func TestReferenceIsComplete(t *testing.T) {
	definitions, err := read("../../charts/nodegadget/files/crds")
	require.NoError(t, err)
	require.Len(t, definitions, 2)
	require.Equal(t, "TraceSession", definitions[0].Spec.Names.Kind)
	rows := make(map[string]field)
	for _, crd := range definitions {
		for _, f := range fieldsOf(crd.Spec.Versions[0].Schema.OpenAPIV3Schema) {
			require.NotEmpty(t, f.meaning, f.path)
			require.NotEmpty(t, f.kind, f.path)
			rows[f.path] = f
		}
	}
	require.Contains(t, rows["spec.gadget"].meaning, "**Required.** ")
	require.Contains(t, rows["spec.gadget"].meaning, "The gadget of a session can't be changed")
	require.Equal(t, "time", rows["spec.ttl"].kind)
	require.Equal(t, "label selector", rows["spec.selector.podSelector"].kind)
	require.Equal(t, "size", rows["spec.output.file.maxSize"].kind)
	require.Equal(t, "map to string", rows["spec.params"].kind)
	require.Contains(t, rows["spec.output.stream.retain"].meaning, "1 to 1000000.")
	require.Contains(t, rows["spec.selector.nodeNames"].meaning, "At most 256.")
	require.Contains(t, rows["status.phase"].meaning, "One of Pending, Running, ")
	require.Equal(t, "string", rows["status.failures[].reason"].kind)
}
