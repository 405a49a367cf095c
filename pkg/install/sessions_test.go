// SPDX-License-Identifier: Apache-2.0

package install

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// definition is that of a kind of sessions, as Helm made it from another namespace.
func definition(resource, release, namespace string) *unstructured.Unstructured {
	u := new(unstructured.Unstructured)
	u.SetAPIVersion("apiextensions.k8s.io/v1")
	u.SetKind("CustomResourceDefinition")
	u.SetName(v1alpha1.Resource(resource).String())
	u.SetAnnotations(map[string]string{releaseNameAnnotation: release, releaseNamespaceAnnotation: namespace})
	return u
}

// traceSession is one that was deleted so long ago; 0 for one that wasn't.
func traceSession(kind, namespace, name string, ago time.Duration, finalizers ...string) *unstructured.Unstructured {
	u := new(unstructured.Unstructured)
	u.SetAPIVersion(v1alpha1.GroupVersion.String())
	u.SetKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	u.SetResourceVersion("7")
	u.SetFinalizers(finalizers)
	if ago > 0 {
		u.SetDeletionTimestamp(&metav1.Time{Time: time.Now().Add(-ago)})
	}
	return u
}

// cluster is an installer's, with objects.
func cluster(objects ...runtime.Object) (*Installer, *dynamicfake.FakeDynamicClient) {
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}: "CustomResourceDefinitionList",
		v1alpha1.GroupVersion.WithResource("tracesessions"):                                   "TraceSessionList",
		v1alpha1.GroupVersion.WithResource("clustertracesessions"):                            "ClusterTraceSessionList",
	}, objects...)
	return &Installer{opts: Options{Namespace: "nodegadget"}, client: fake.NewClientset(), dynamic: client}, client
}

// finalizersOf are those that a session has.
func finalizersOf(t *testing.T, i *Installer, resource, namespace, name string) []string {
	t.Helper()
	u, err := i.dynamic.Resource(v1alpha1.GroupVersion.WithResource(resource)).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return u.GetFinalizers()
}

// TestLetGo wants sessions to lose the controller's finalizer, and no other, when it has
// had time enough; all of them when there is no controller any more.
func TestLetGo(t *testing.T) {
	i, _ := cluster(
		traceSession("TraceSession", "shop", "fresh", time.Second, v1alpha1.Finalizer),
		traceSession("TraceSession", "shop", "stuck", time.Minute, "other/one", v1alpha1.Finalizer),
		traceSession("ClusterTraceSession", "", "stuck", time.Minute, v1alpha1.Finalizer),
		traceSession("ClusterTraceSession", "", "wanted", 0, v1alpha1.Finalizer),
	)
	require.NoError(t, i.letGo(t.Context(), sessionGrace))
	require.Equal(t, []string{v1alpha1.Finalizer}, finalizersOf(t, i, "tracesessions", "shop", "fresh"))
	require.Equal(t, []string{"other/one"}, finalizersOf(t, i, "tracesessions", "shop", "stuck"))
	require.Empty(t, finalizersOf(t, i, "clustertracesessions", "", "stuck"))
	require.Equal(t, []string{v1alpha1.Finalizer}, finalizersOf(t, i, "clustertracesessions", "", "wanted"))
	require.NoError(t, i.letGo(t.Context(), -1))
	require.Empty(t, finalizersOf(t, i, "tracesessions", "shop", "fresh"))
	require.Empty(t, finalizersOf(t, i, "clustertracesessions", "", "wanted"))
}

// TestLetGoWithoutDefinitions wants a cluster to be fine that doesn't know of sessions,
// and one where somebody else was faster.
func TestLetGoWithoutDefinitions(t *testing.T) {
	i, client := cluster(traceSession("TraceSession", "shop", "stuck", time.Minute, v1alpha1.Finalizer))
	client.PrependReactor("list", "clustertracesessions", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(v1alpha1.Resource("clustertracesessions"), "")
	})
	client.PrependReactor("patch", "tracesessions", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewConflict(v1alpha1.Resource("tracesessions"), "stuck", nil)
	})
	require.NoError(t, i.letGo(t.Context(), -1))
	client.PrependReactor("patch", "tracesessions", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(v1alpha1.Resource("tracesessions"), "stuck", nil)
	})
	require.ErrorContains(t, i.letGo(t.Context(), -1), "letting go of tracesessions stuck: ")
}

// TestRemoveDefinitions wants the removal not to hang where no controller lets go: the
// API server keeps a definition until its objects are gone.
func TestRemoveDefinitions(t *testing.T) {
	i, client := cluster(
		definition("tracesessions", "nodegadget", "nodegadget"), definition("clustertracesessions", "nodegadget", "nodegadget"),
		traceSession("TraceSession", "shop", "stuck", time.Minute, v1alpha1.Finalizer),
	)
	looked := 0
	client.PrependReactor("get", "customresourcedefinitions", func(action clienttesting.Action) (bool, runtime.Object, error) {
		looked++
		left, err := client.Tracker().List(v1alpha1.GroupVersion.WithResource("tracesessions"), v1alpha1.GroupVersion.WithKind("TraceSession"), "shop")
		require.NoError(t, err)
		waits := left.(*unstructured.UnstructuredList).Items[0].GetFinalizers()
		return len(waits) > 0, definition("tracesessions", "nodegadget", "nodegadget"), nil
	})
	require.NoError(t, i.removeDefinitions(t.Context()))
	require.Greater(t, looked, 1)
	there, err := i.hasDefinitions(t.Context())
	require.NoError(t, err)
	require.False(t, there)
	require.NoError(t, i.removeDefinitions(t.Context()), "what is gone")
}

// TestAdopt wants an installation to take over what one in another namespace has left,
// but nothing of one that is there, nor what Helm didn't make.
func TestAdopt(t *testing.T) {
	release := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: "live", Name: "sh.helm.release.v1.nodegadget.v1", Labels: map[string]string{"owner": "helm", "name": "nodegadget"},
	}}
	for _, test := range []struct{ release, namespace, want string }{
		{"nodegadget", "gone", "nodegadget"},
		{"nodegadget", "live", "live"},
		{"other", "gone", "gone"},
		{"nodegadget", "nodegadget", "nodegadget"},
	} {
		i, _ := cluster(definition("tracesessions", test.release, test.namespace))
		i.client = fake.NewClientset(release)
		require.NoError(t, i.adopt(t.Context()))
		crd, err := i.definitions().Get(t.Context(), "tracesessions.nodegadget.dev", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, test.want, crd.GetAnnotations()[releaseNamespaceAnnotation], test)
	}
}
