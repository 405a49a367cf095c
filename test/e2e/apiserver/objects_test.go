// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// TestNamespaceThatIsDeleted isn't held up by sessions, nor by dead nodes.
func TestNamespaceThatIsDeleted(t *testing.T) {
	w := newWorld(t)
	agents := w.agents("node1", "node2")
	w.controller(nil)
	for _, name := range []string{"a", "b", "c"} {
		w.applyTrace(w.trace(name))
		w.awaitPhase(name, v1alpha1.SessionRunning)
	}
	agents[1].kill()
	require.NoError(t, w.client.Resource(namespaces).Delete(t.Context(), w.namespace, metav1.DeleteOptions{}))
	eventually(t, 2*patience, func() bool {
		_, err := w.client.Resource(namespaces).Get(t.Context(), w.namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// TestDefinitionsThatAreUpgraded: objects are kept, and looked after all the time.
func TestDefinitionsThatAreUpgraded(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.controller(nil)
	made := w.applyTrace(w.trace("a"))
	before := w.await("a", "events", func(s *v1alpha1.TraceSession) bool { return s.Status.Events > 0 })
	t.Cleanup(func() { installCRDsAfter(w) })
	for _, crd := range crdFiles(t) {
		// A field more, and another version of the API beside the stored one.
		versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
		require.NoError(t, err)
		first := versions[0].(map[string]any)
		next := (&unstructured.Unstructured{Object: first}).DeepCopy().Object
		next["name"], next["storage"] = "v1alpha2", false
		require.NoError(t, unstructured.SetNestedField(first, "string", "schema", "openAPIV3Schema", "properties", "spec", "properties", "more", "type"))
		require.NoError(t, unstructured.SetNestedSlice(crd.Object, []any{first, next}, "spec", "versions"))
		applyCRD(t, w.client, crd)
	}
	s := w.await("a", "events", func(s *v1alpha1.TraceSession) bool { return s.Status.Events > before.Status.Events })
	require.Equal(t, made.GetUID(), s.UID)
	require.Equal(t, v1alpha1.SessionRunning, s.Status.Phase)
	w.applyTrace(w.trace("b", map[string]any{"more": "new"}))
	w.awaitPhase("b", v1alpha1.SessionRunning)
	w.applyTrace(w.trace("a", map[string]any{"suspend": true}))
	w.awaitPhase("a", v1alpha1.SessionSuspended)
}

// installCRDsAfter puts back what other tests expect.
func installCRDsAfter(w *world) {
	ctx := context.WithoutCancel(w.t.Context())
	for _, crd := range crdFiles(w.t) {
		stored, err := w.client.Resource(crds).Get(ctx, crd.GetName(), metav1.GetOptions{})
		if err == nil {
			stored.Object["spec"] = crd.Object["spec"]
			_, err = w.client.Resource(crds).Update(ctx, stored, metav1.UpdateOptions{})
		}
		if err != nil {
			w.t.Logf("putting back %s: %v", crd.GetName(), err)
		}
	}
}

// TestGitOps: what is applied again and again differs in nothing from what is there, and
// nobody but the controller touches a status.
func TestGitOps(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.controller(nil)
	wanted := w.trace("a", map[string]any{
		"params": map[string]any{"failed": "true"}, "filter": "uid == 0", "ttl": "1h", "bufferSize": "1Mi",
		"selector": map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "cart"}}, "containerNames": []any{"web"}},
		"output":   map[string]any{"stream": map[string]any{"retain": int64(5000)}, "file": map[string]any{}},
	})
	w.applyTrace(wanted)
	s := w.awaitPhase("a", v1alpha1.SessionRunning)
	there, err := w.client.Resource(sessions).Namespace(w.namespace).Get(t.Context(), "a", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, wanted.Object["spec"], there.Object["spec"], "nothing is filled in")
	for range 3 {
		applied := w.applyTrace(wanted)
		require.Equal(t, s.Generation, applied.GetGeneration())
		require.Equal(t, wanted.Object["spec"], applied.Object["spec"])
		phase, _, _ := unstructured.NestedString(applied.Object, "status", "phase")
		require.Equal(t, "Running", phase)
		require.Contains(t, applied.GetFinalizers(), v1alpha1.Finalizer)
	}
	// One who applies a status as well writes nothing.
	with := wanted.DeepCopy()
	require.NoError(t, unstructured.SetNestedField(with.Object, "Failed", "status", "phase"))
	applied := w.applyTrace(with)
	phase, _, _ := unstructured.NestedString(applied.Object, "status", "phase")
	require.Equal(t, "Running", phase)
	owners := map[string]string{}
	for _, f := range applied.GetManagedFields() {
		owners[f.Manager+" "+f.Subresource] = string(f.Operation)
	}
	require.Equal(t, "Apply", owners["gadget-controller status"])
	require.Equal(t, "Apply", owners["kubectl "])
}

// TestSamples: the API server takes them, and so does the controller.
func TestSamples(t *testing.T) {
	w := newWorld(t)
	w.agents("node1")
	w.controller(nil)
	files, err := filepath.Glob(filepath.Join(module, "config/samples/*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			u := parse(t, string(text))
			resource := w.client.Resource(clusterSessions).Namespace("")
			if u.GetKind() == "TraceSession" {
				u.SetNamespace(w.namespace)
				resource = w.client.Resource(sessions).Namespace(w.namespace)
			}
			want := "Running"
			if suspended, _, _ := unstructured.NestedBool(u.Object, "spec", "suspend"); suspended {
				want = "Suspended"
			}
			_, err := resource.Apply(t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test"})
			require.NoError(t, err)
			eventually(t, patience, func() bool {
				got, err := resource.Get(t.Context(), u.GetName(), metav1.GetOptions{})
				require.NoError(t, err)
				phase, _, _ := unstructured.NestedString(got.Object, "status", "phase")
				return phase == want
			})
		})
	}
}

// TestSchema: what makes no sense to any gadget is refused when it is made.
func TestSchema(t *testing.T) {
	w := newWorld(t)
	many := map[string]any{}
	for i := range 65 {
		many["p"+strings.Repeat("x", i)] = "1"
	}
	for _, test := range []struct {
		name string
		spec map[string]any
		want string
	}{
		{"no gadget", map[string]any{"gadget": nil}, "spec.gadget"},
		{"a gadget that can't be", map[string]any{"gadget": map[string]any{"name": "../etc"}}, "spec.gadget.name"},
		{"many params", map[string]any{"params": many}, "spec.params"},
		{"a long filter", map[string]any{"filter": strings.Repeat("x", 4097)}, "spec.filter"},
		{"a negative life", map[string]any{"ttl": "-1h"}, "spec.ttl"},
		{"a duration that isn't", map[string]any{"ttl": "1 day"}, "spec.ttl"},
		{"a quantity that isn't", map[string]any{"bufferSize": "1e1.5"}, "spec.bufferSize"},
		{"a huge tail", map[string]any{"output": map[string]any{"stream": map[string]any{"retain": int64(1e7)}}}, "retain"},
		{"many files", map[string]any{"output": map[string]any{"file": map[string]any{"maxFiles": int64(1000)}}}, "maxFiles"},
		{"no endpoint", map[string]any{"output": map[string]any{"otlp": map[string]any{}}}, "endpoint"},
		{"an empty pod", map[string]any{"selector": map[string]any{"podNames": []any{""}}}, "podNames"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := w.client.Resource(sessions).Namespace(w.namespace).Create(t.Context(), w.trace("bad", test.spec), metav1.CreateOptions{})
			require.True(t, apierrors.IsInvalid(err) || apierrors.IsBadRequest(err), "%v", err)
			require.ErrorContains(t, err, test.want)
		})
	}
	// Fields of the other kind are nothing here.
	applied := w.applyTraceDropping(w.trace("a", map[string]any{"selector": map[string]any{"host": true, "namespaces": []any{"kube-system"}}}))
	selector, _, _ := unstructured.NestedMap(applied.Object, "spec", "selector")
	require.Empty(t, selector)
	// Another gadget would be another session.
	_, err := w.client.Resource(sessions).Namespace(w.namespace).Apply(t.Context(), "a",
		w.trace("a", map[string]any{"gadget": map[string]any{"name": "trace_open"}}), metav1.ApplyOptions{FieldManager: "kubectl", Force: true})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "gadget")
}

// applyTraceDropping makes an object of which the API server drops unknown fields.
func (w *world) applyTraceDropping(u *unstructured.Unstructured) *unstructured.Unstructured {
	w.t.Helper()
	made, err := w.client.Resource(sessions).Namespace(w.namespace).Create(w.t.Context(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationIgnore})
	require.NoError(w.t, err)
	return made
}

// TestPolicy: what the gadget doesn't take is refused when it is made, if the chart's
// policy is there.
func TestPolicy(t *testing.T) {
	w := newWorld(t)
	policies := rendered(t, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
	w.applyAll(policies)
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		for _, p := range policies {
			resource, _ := meta.UnsafeGuessKindToResource(p.GroupVersionKind())
			require.NoError(t, w.client.Resource(resource).Delete(ctx, p.GetName(), metav1.DeleteOptions{}))
		}
		// And is known not to be there any more.
		awaitAnswer(ctx, w, map[string]any{"gadget": map[string]any{"name": "trace_nothing"}}, "")
	})
	awaitAnswer(ctx, w, map[string]any{"gadget": map[string]any{"name": "trace_nothing"}}, "unknown gadget trace_nothing, known are: ")
	awaitAnswer(ctx, w, map[string]any{"params": map[string]any{"nope": "1"}}, "no parameter")
	awaitAnswer(ctx, w, map[string]any{"params": map[string]any{"failed": "perhaps"}}, "perhaps")
	awaitAnswer(ctx, w, map[string]any{"interval": "1s"}, "has no interval")
	awaitAnswer(ctx, w, map[string]any{"params": map[string]any{"failed": "true"}}, "")
}

// awaitAnswer waits until a session with the spec is refused with a text, or allowed.
func awaitAnswer(ctx context.Context, w *world, spec map[string]any, want string) {
	w.t.Helper()
	var err error
	eventually(w.t, patience, func() bool {
		_, err = w.client.Resource(sessions).Namespace(w.namespace).Create(ctx, w.trace("tried", spec),
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if want == "" {
			return err == nil
		}
		return err != nil && strings.Contains(err.Error(), want)
	})
}
