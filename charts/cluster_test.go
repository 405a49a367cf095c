// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/scheme"
)

// TestOldClusters wants nothing that a cluster's version doesn't know: Helm's
// server-side apply refuses unknown fields.
func TestOldClusters(t *testing.T) {
	const text = "agent: {appArmorProfile: Unconfined}"
	for version, want := range map[string]struct{ recursive, field bool }{
		"v1.25.0": {false, false}, "v1.29.9-gke.100": {false, false}, "v1.30.0": {false, true},
		"v1.32.4": {false, true}, "v1.33.0-eks-1": {true, true}, "v1.36.3": {true, true},
	} {
		all := objects(t, render(t, version, text))
		c := pods(all)["nodegadget-agent"].Containers[0]
		require.Equal(t, want.field, c.SecurityContext.AppArmorProfile != nil, version)
		for _, o := range all {
			if o.GetName() == "nodegadget-agent" && len(pods([]object{o})) > 0 {
				const annotation = "container.apparmor.security.beta.kubernetes.io/agent: unconfined"
				require.Equal(t, want.field, !strings.Contains(o.text, annotation), version)
			}
		}
		require.Equal(t, want.recursive, c.VolumeMounts[0].RecursiveReadOnly != nil, version)
	}
	c := load(t)
	require.Equal(t, ">=1.25.0-0", c.Metadata.KubeVersion)
}

// namespaces are those of a cluster, for templates that look.
type namespaces struct{ dynamic.Interface }

func (n namespaces) GetClientFor(_, _ string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return n.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")), false, nil
}

// TestPodSecurity wants an installation to fail at once, and to say what to do, where
// the namespace would refuse the agents.
func TestPodSecurity(t *testing.T) {
	for level, refused := range map[string]bool{"": false, "privileged": false, "baseline": true, "restricted": true} {
		own := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "nodegadget"}}
		if level != "" {
			own.Labels = map[string]string{"pod-security.kubernetes.io/enforce": level}
		}
		var cluster engine.ClientProvider = namespaces{fake.NewSimpleDynamicClient(scheme.Scheme, own)}
		c := load(t)
		all, err := values(t, c, kubeVersion, "{}")
		require.NoError(t, err)
		_, err = engine.RenderWithClientProvider(c, all, cluster)
		if !refused {
			require.NoError(t, err, level)
			continue
		}
		require.ErrorContains(t, err, "enforces PodSecurity level "+level)
		require.ErrorContains(t, err, "kubectl label --overwrite namespace nodegadget pod-security.kubernetes.io/enforce=privileged")
	}
}

// TestNamespaceLabels wants a namespace of the chart to let the agents in.
func TestNamespaceLabels(t *testing.T) {
	for _, o := range objects(t, render(t, kubeVersion, "namespace: {create: true, labels: {a: b}}")) {
		if n, ok := o.typed.(*corev1.Namespace); ok {
			require.Equal(t, "nodegadget", n.Name)
			require.Equal(t, "privileged", n.Labels["pod-security.kubernetes.io/enforce"])
			require.Equal(t, "b", n.Labels["a"])
			return
		}
	}
	require.Fail(t, "no namespace")
}

// TestNotes wants commands that can be copied.
func TestNotes(t *testing.T) {
	notes := render(t, kubeVersion, "{}")["NOTES.txt"]
	require.Contains(t, notes, "\n  kubectl gadget status\n  kubectl gadget trace exec -A\n")
	require.Contains(t, notes, "kubectl label --overwrite namespace nodegadget")
	require.Contains(t, notes, "--role nodegadget-connect")
	notes = render(t, kubeVersion, "{namespace: {create: true}, rbac: {connect: [{kind: User, name: alice}]}}")["NOTES.txt"]
	require.NotContains(t, notes, "kubectl label")
	require.NotContains(t, notes, "--role nodegadget-connect")
}
