// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/cluster/clustertest"
)

func TestCompletionAsksTheCluster(t *testing.T) {
	s := clustertest.New(t, &fakeRelay{})
	s.Namespaces = []metav1.ObjectMeta{{Name: "shop"}, {Name: "bank"}}
	s.Nodes = []metav1.ObjectMeta{{Name: "node1"}, {Name: "node2"}}
	s.Pods = []metav1.ObjectMeta{{Namespace: "shop", Name: "cart-1"}, {Namespace: "bank", Name: "safe"}}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"trace", "exec", "-n", ""}, "bank shop"},
		{[]string{"trace", "exec", "--namespace", "b"}, "bank"},
		{[]string{"trace", "exec", "--namespace=b"}, "--namespace=bank"},
		{[]string{"trace", "exec", "-n", "bank,s"}, "bank,shop"},
		{[]string{"trace", "exec", "-p", ""}, "cart-1"},
		{[]string{"trace", "exec", "-n", "bank", "-p", ""}, "safe"},
		{[]string{"trace", "exec", "-A", "--podname", ""}, "cart-1 safe"},
		{[]string{"trace", "exec", "-c", "s"}, "side"},
		{[]string{"trace", "exec", "--node", ""}, "node1 node2"},
		{[]string{"trace", "exec", "--context", ""}, "test"},
		{[]string{"status", "--gadget-namespace", ""}, "bank shop"},
		{[]string{"doctor", "--node", ""}, "node1 node2"},
	} {
		args := append([]string{"__complete", test.args[0]}, append([]string{"--kubeconfig", s.Kubeconfig}, test.args[1:]...)...)
		if test.args[0] == "trace" {
			args = append([]string{"__complete", "trace", "exec", "--kubeconfig", s.Kubeconfig}, test.args[2:]...)
		}
		r := call(t, args...)
		require.Zero(t, r.status, r.err)
		words := strings.Fields(strings.ReplaceAll(r.out, "\t", " "))
		require.Equal(t, test.want, strings.Join(words[:len(words)-1], " "), test.args)
	}
	// A cluster that doesn't answer has nothing to complete.
	r := call(t, "__complete", "trace", "exec", "--kubeconfig", filepath.Join(t.TempDir(), "none"), "-n", "")
	require.Zero(t, r.status)
	require.Equal(t, ":4\n", r.out)
}
