// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestImageIsTakenApart(t *testing.T) {
	for image, want := range map[string][3]string{
		"nodegadget":                              {"nodegadget", "", ""},
		"nodegadget:v1":                           {"nodegadget", "v1", ""},
		"registry.example:5000/team/nodegadget":   {"registry.example:5000/team/nodegadget", "", ""},
		"registry.example:5000/nodegadget:v1":     {"registry.example:5000/nodegadget", "v1", ""},
		"r.example/nodegadget@sha256:abc":         {"r.example/nodegadget", "", "sha256:abc"},
		"r.example:80/nodegadget:v1.2@sha256:abc": {"r.example:80/nodegadget", "v1.2", "sha256:abc"},
	} {
		merged, err := Values{Image: image, Set: []string{"image.pullPolicy=Never"}}.merge()
		require.NoError(t, err)
		require.Equal(t, map[string]any{
			"pullPolicy": "Never", "repository": want[0], "tag": want[1], "digest": want[2],
		}, merged["image"], image)
	}
}

func TestValuesOfFilesAndFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(file, []byte("agent: {maxRuns: 7, queueSize: 1}\n"), 0o600))
	merged, err := Values{Files: []string{file}, Set: []string{"agent.queueSize=2"}}.merge()
	require.NoError(t, err)
	require.EqualValues(t, map[string]any{"maxRuns": 7.0, "queueSize": int64(2)}, merged["agent"])
	_, err = Values{Files: []string{file + ".none"}}.merge()
	require.ErrorContains(t, err, "reading values: ")
	_, err = Values{Set: []string{"a=b,c"}}.merge()
	require.ErrorContains(t, err, "reading values: ")
}

// TestRenderIsWhatIsInstalled: everything, with the namespace that lets the agents in.
func TestRenderIsWhatIsInstalled(t *testing.T) {
	text, err := Render(t.Context(), "tracing", "", Values{Image: "r.example/nodegadget:v9"})
	require.NoError(t, err)
	for _, want := range []string{
		"kind: Namespace\n", "name: tracing\n", "pod-security.kubernetes.io/enforce: privileged", "kind: DaemonSet\n", "kind: Deployment\n",
		"r.example/nodegadget:v9",
	} {
		require.Contains(t, text, want)
	}
	_, err = Render(t.Context(), "tracing", "", Values{Set: []string{"nonsense=1"}})
	require.ErrorContains(t, err, "nonsense")
	_, err = Render(t.Context(), "tracing", "v1.24.0", Values{})
	require.ErrorContains(t, err, "requires kubeVersion: >=1.25.0")
}

func TestNamespaceIsMadeAsTheChartHasIt(t *testing.T) {
	client := fake.NewClientset()
	i := &Installer{opts: Options{Namespace: "tracing"}, client: client}
	require.NoError(t, i.makeNamespace(t.Context(), map[string]any{}))
	namespace, err := client.CoreV1().Namespaces().Get(t.Context(), "tracing", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "privileged", namespace.Labels["pod-security.kubernetes.io/enforce"])
	require.Equal(t, "nodegadget", namespace.Labels["app.kubernetes.io/name"])

	// One that is there stays as it is.
	namespace.Labels = map[string]string{"mine": "yes"}
	_, err = client.CoreV1().Namespaces().Update(t.Context(), namespace, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, i.makeNamespace(t.Context(), map[string]any{}))
	namespace, err = client.CoreV1().Namespaces().Get(t.Context(), "tracing", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"mine": "yes"}, namespace.Labels)
}

// TestNamespaceOfOthersIsKept: only what is nodegadget's, or in every namespace, may go.
func TestNamespaceOfOthersIsKept(t *testing.T) {
	in := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "tracing", Name: name} }
	i := &Installer{opts: Options{Namespace: "tracing"}, client: fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: in("kube-root-ca.crt")}, &corev1.ServiceAccount{ObjectMeta: in("default")},
		&corev1.Pod{ObjectMeta: in("nodegadget-agent-x7")}, &corev1.Secret{ObjectMeta: in("sh.helm.release.v1.nodegadget.v1")},
	)}
	found, err := i.others(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)

	i.client = fake.NewClientset(
		&corev1.Pod{ObjectMeta: in("grafana-0")}, &corev1.Secret{ObjectMeta: in("sh.helm.release.v1.other.v1")},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "web"}},
	)
	found, err = i.others(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"pod grafana-0", "secret sh.helm.release.v1.other.v1"}, found)

	i.opts.Namespace = "kube-system"
	found, err = i.others(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, found)
}
