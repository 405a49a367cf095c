// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
)

func TestLabels(t *testing.T) {
	labels := map[string]string{
		"io.kubernetes.pod.name": "cart-1", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "uid-1",
		"io.kubernetes.container.name": "web", "io.cri-containerd.kind": "sandbox", "app": "cart", "io.kubernetes.pod.named": "kept", "empty": "",
	}
	require.Equal(t, container.Pod{Namespace: "shop", Name: "cart-1", UID: "uid-1"}, Pod(labels))
	require.Equal(t, "web", ContainerName(labels))
	require.Zero(t, Pod(nil))
	require.Empty(t, ContainerName(nil))

	delete(labels, "io.kubernetes.container.name") // sandboxes have none
	sandboxes := NewSandboxes()
	_, ok := sandboxes.Get("uid-1")
	require.False(t, ok)
	want := map[string]string{"app": "cart", "io.kubernetes.pod.named": "kept", "empty": ""}
	require.Equal(t, want, sandboxes.Add("uid-1", labels))
	got, ok := sandboxes.Get("uid-1")
	require.True(t, ok)
	require.Equal(t, want, got)
	sandboxes.Add("uid-1", nil)
	got, _ = sandboxes.Get("uid-1")
	require.Empty(t, got)
}

// TestSandboxesAreBounded: the longest unused are forgotten.
func TestSandboxesAreBounded(t *testing.T) {
	sandboxes := NewSandboxes()
	for i := range 2 * maxSandboxes {
		sandboxes.Add(fmt.Sprint(i), nil)
		_, ok := sandboxes.Get("0")
		require.True(t, ok)
	}
	require.Equal(t, maxSandboxes, sandboxes.labels.Len())
}
