// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// FuzzDecode: whatever an object says, a TraceSession that is understood sees its own
// namespace only, and agents can read its label selector.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"selector":{"podSelector":{"matchLabels":{"app":"cart"}},"podNames":["p"],"containerNames":["c"]}}`,
		`{"selector":{"namespaces":["kube-system"],"host":true,"nodeNames":["n"]},"gadget":{"name":"trace_exec"}}`,
		`{"selector":{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["x",""]}]}},"ttl":"1h","interval":"1s","bufferSize":"1Mi"}`,
		`{"selector":{"podSelector":{"matchLabels":{"a":"b,c"}}},"bufferSize":-1}`,
		`{"selector":null,"params":{"a":"b"},"filter":"uid == 0"}`,
	} {
		f.Add([]byte(seed))
	}
	g := spec(f, "trace_exec")
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, kind := range []string{Kind, ClusterKind} {
			u := &unstructured.Unstructured{}
			object := `{"apiVersion":"nodegadget.dev/v1alpha1","kind":"` + kind + `","metadata":{"namespace":"shop","name":"n","uid":"u"},"spec":` + string(text) + `}`
			if u.UnmarshalJSON([]byte(object)) != nil {
				return
			}
			u.SetNamespace("shop")
			u.SetKind(kind)
			s, err := Decode(u)
			if err != nil {
				continue
			}
			selector := s.Start().GetSelector()
			require.NotNil(t, selector)
			_, err = labels.Parse(selector.GetLabels())
			require.NoError(t, err)
			if kind == Kind {
				require.Equal(t, []string{"shop"}, selector.GetNamespaces())
				require.False(t, selector.GetHost())
				require.Empty(t, s.Nodes)
			}
			Check(&s, g)
		}
	})
}
