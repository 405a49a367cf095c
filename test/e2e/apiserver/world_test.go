// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/install"
	"nodegadget.dev/pkg/session/reconcile"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 30 * time.Second
	// system is the namespace of nodegadget's own parts.
	system = "nodegadget"
)

var (
	sessions        = v1alpha1.GroupVersion.WithResource("tracesessions")
	clusterSessions = v1alpha1.GroupVersion.WithResource("clustertracesessions")
	eventsResource  = eventsv1.SchemeGroupVersion.WithResource("events")
	namespaces      = corev1.SchemeGroupVersion.WithResource("namespaces")
	crds            = apiextensions.SchemeGroupVersion.WithResource("customresourcedefinitions")
)

// world is an API server with a namespace of the test's own, agents and controllers.
type world struct {
	t         *testing.T
	client    dynamic.Interface
	namespace string
	fleet     *fleet
	writes    *writes
}

var installed sync.Once

func newWorld(t *testing.T) *world {
	t.Helper()
	if absent != "" {
		t.Skip(absent)
	}
	client, err := dynamic.NewForConfig(shared.Config)
	require.NoError(t, err)
	w := &world{t: t, client: client, fleet: newFleet(), writes: &writes{}}
	installed.Do(func() {
		installCRDs(t, client)
		w.apply(namespaces, "", object("v1", "Namespace", "", system, nil))
		w.applyAll(rendered(t, "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"))
	})
	name := strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-"))
	w.namespace = name[:min(len(name), 40)]
	w.apply(namespaces, "", object("v1", "Namespace", "", w.namespace, nil))
	t.Cleanup(w.clear)
	return w
}

// clear lets no session outlive the test, whose controllers have ended.
func (w *world) clear() {
	ctx := context.WithoutCancel(w.t.Context())
	for _, resource := range []dynamic.ResourceInterface{w.client.Resource(sessions).Namespace(w.namespace), w.client.Resource(clusterSessions)} {
		list, err := resource.List(ctx, metav1.ListOptions{})
		require.NoError(w.t, err)
		for _, o := range list.Items {
			_, err := resource.Patch(ctx, o.GetName(), "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			require.NoError(w.t, ignoreMissing(err))
			require.NoError(w.t, ignoreMissing(resource.Delete(ctx, o.GetName(), metav1.DeleteOptions{})))
		}
	}
}

// eventually waits, in the test's own goroutine, so that what it calls may fail.
func eventually(t *testing.T, most time.Duration, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !so(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "it didn't happen in %v", most)
	}
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// installCRDs does it as kubectl apply would, and waits until they are served.
func installCRDs(t *testing.T, client dynamic.Interface) {
	t.Helper()
	for _, text := range crdFiles(t) {
		applyCRD(t, client, text)
	}
}

func crdFiles(t *testing.T) (all []*unstructured.Unstructured) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(module, "charts/nodegadget/files/crds/*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all = append(all, parse(t, string(text)))
	}
	return all
}

func applyCRD(t *testing.T, client dynamic.Interface, crd *unstructured.Unstructured) {
	t.Helper()
	_, err := client.Resource(crds).Apply(t.Context(), crd.GetName(), crd, metav1.ApplyOptions{FieldManager: "test", Force: true})
	require.NoError(t, err)
	eventually(t, patience, func() bool {
		got, err := client.Resource(crds).Get(t.Context(), crd.GetName(), metav1.GetOptions{})
		require.NoError(t, err)
		var typed apiextensions.CustomResourceDefinition
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(got.Object, &typed))
		for _, c := range typed.Status.Conditions {
			if c.Type == apiextensions.Established && c.Status == apiextensions.ConditionTrue {
				return true
			}
		}
		return false
	})
	time.Sleep(200 * time.Millisecond) // and then some, until it is
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &u.Object))
	return u
}

func object(version, kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind}}
	u.SetNamespace(namespace)
	u.SetName(name)
	if spec != nil {
		u.Object["spec"] = spec
	}
	return u
}

// trace is a TraceSession of the test's namespace.
func (w *world) trace(name string, more ...map[string]any) *unstructured.Unstructured {
	spec := map[string]any{"gadget": map[string]any{"name": "trace_exec"}}
	for _, m := range more {
		for key, value := range m {
			spec[key] = value
		}
	}
	return object(v1alpha1.GroupVersion.String(), "TraceSession", w.namespace, name, spec)
}

func (w *world) apply(resource schema.GroupVersionResource, namespace string, u *unstructured.Unstructured) *unstructured.Unstructured {
	w.t.Helper()
	applied, err := w.client.Resource(resource).Namespace(namespace).Apply(w.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "kubectl", Force: true})
	require.NoError(w.t, err)
	return applied
}

func (w *world) applyTrace(u *unstructured.Unstructured) *unstructured.Unstructured {
	w.t.Helper()
	return w.apply(sessions, w.namespace, u)
}

func (w *world) delete(name string) {
	w.t.Helper()
	require.NoError(w.t, w.client.Resource(sessions).Namespace(w.namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}))
}

// get returns a session of the test's namespace; nil if there is none.
func (w *world) get(name string) *v1alpha1.TraceSession {
	u, err := w.client.Resource(sessions).Namespace(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(w.t, err)
	typed := &v1alpha1.TraceSession{}
	require.NoError(w.t, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed))
	return typed
}

// await waits until what is wanted is so, and returns the session.
func (w *world) await(name, what string, so func(*v1alpha1.TraceSession) bool) *v1alpha1.TraceSession {
	w.t.Helper()
	var got *v1alpha1.TraceSession
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if got = w.get(name); got != nil && so(got) {
			return got
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := yaml.Marshal(got)
	require.FailNow(w.t, "waiting for "+what, "got:\n%s", text)
	return nil
}

func (w *world) awaitPhase(name string, phase v1alpha1.SessionPhase) *v1alpha1.TraceSession {
	w.t.Helper()
	return w.await(name, string(phase), func(s *v1alpha1.TraceSession) bool { return s.Status.Phase == phase })
}

func (w *world) awaitGone(name string) time.Duration {
	w.t.Helper()
	began := time.Now()
	eventually(w.t, patience, func() bool { return w.get(name) == nil })
	return time.Since(began)
}

// agents makes agents that learn of sessions from the API server.
func (w *world) agents(names ...string) (all []*agent) {
	for _, name := range names {
		a := newAgent(name)
		all = append(all, a)
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error, 1)
		go func() { done <- a.follow(ctx, as("agent")) }()
		w.t.Cleanup(func() {
			cancel()
			require.NoError(w.t, <-done)
		})
		w.fleet.set(name, a)
	}
	return all
}

// as is what one of nodegadget's own parts may do, and no more.
func as(part string) *rest.Config {
	config := rest.CopyConfig(shared.Config)
	config.Impersonate.UserName = "system:serviceaccount:" + system + ":nodegadget-" + part
	return config
}

// rendered are the chart's objects of the kinds.
func rendered(t *testing.T, kinds ...string) (all []*unstructured.Unstructured) {
	t.Helper()
	text, err := install.Render(t.Context(), system, "v1.36.0", install.Values{})
	require.NoError(t, err)
	for document := range strings.SplitSeq(text, "\n---") {
		if u := parse(t, document); slices.Contains(kinds, u.GetKind()) {
			all = append(all, u)
		}
	}
	require.NotEmpty(t, all)
	return all
}

// applyAll applies objects of any kinds.
func (w *world) applyAll(all []*unstructured.Unstructured) {
	w.t.Helper()
	for _, u := range all {
		resource, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
		w.apply(resource, u.GetNamespace(), u)
	}
}

// controller runs one until the test or stop ends it.
func (w *world) controller(change func(*reconcile.Options)) (stop func()) {
	w.t.Helper()
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "")
	require.NoError(w.t, err)
	config := as("controller")
	config.Wrap(w.writes.count)
	opts := reconcile.Options{
		Config: config, Namespace: system, LeaderElect: true, Lease: 3 * time.Second,
		Agents: w.fleet.each, Catalog: catalog, Log: slog.New(slog.NewTextHandler(&testLog{t: w.t}, nil)),
	}
	if change != nil {
		change(&opts)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		reconcile.Run(ctx, opts)
	}()
	stop = func() {
		cancel()
		<-done
	}
	w.t.Cleanup(stop)
	return stop
}

// testLog shows logs of a test that fails.
type testLog struct{ t *testing.T }

func (l *testLog) Write(text []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(text)))
	}
	return len(text), nil
}

// writes counts writes of statuses, by the second in which they came.
type writes struct {
	mu    sync.Mutex
	times map[string][]time.Time
}

func (w *writes) count(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if strings.HasSuffix(request.URL.Path, "/status") && request.Method == http.MethodPatch {
			w.mu.Lock()
			if w.times == nil {
				w.times = map[string][]time.Time{}
			}
			w.times[request.URL.Path] = append(w.times[request.URL.Path], time.Now())
			w.mu.Unlock()
		}
		return next.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// requirePaced wants no two writes of one status within less than a second.
func (w *writes) requirePaced(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, times := range w.times {
		for i := 1; i < len(times); i++ {
			require.GreaterOrEqual(t, times[i].Sub(times[i-1]), 950*time.Millisecond, "%s at %v", path, times)
		}
	}
}

// condition is one of a status, as text.
func condition(s *v1alpha1.TraceSession, kind string) string {
	c := meta.FindStatusCondition(s.Status.Conditions, kind)
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}
