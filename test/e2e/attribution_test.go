// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shortPods is how many pods testShortLived makes, all at the same time.
const shortPods = 200

// testShortLived traces pods whose containers end after three executions, within some
// ten milliseconds. Every execution must be shown, with the pod that it names itself.
func testShortLived(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	// All namespaces, because there an event of which nothing is known is shown, too.
	tr := s.trace(t, "trace", "exec", "-A")
	begin := time.Now()
	for i := range shortPods {
		name := shortName(i)
		pod := workload(name, s.Nodes[i%nodes].Name, "/bin/true first-"+name+"; exec /bin/true last-"+name)
		_, err := s.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	tr.awaitFor(manyPatience, shortPods, func(e line) bool { return e.Comm == "true" && e.has(" last-") })
	took := time.Since(begin)
	tr.stop()
	note("%d pods in %.0f s: %.1f a second", shortPods, took.Seconds(), shortPods/took.Seconds())
	var lives []time.Duration
	for i := range shortPods {
		name := shortName(i)
		// The script, which has both words, and what it executes.
		mine := tr.all(func(e line) bool { return e.has("-" + name) })
		require.Len(t, mine, 3, "executions of %s", name)
		for _, e := range mine {
			require.Equal(t, []string{s.Nodes[i%nodes].Name, namespace, name, "main"}, []string{e.Node, e.Namespace, e.Pod, e.Container}, e)
		}
		lives = append(lives, mine[2].Timestamp.Sub(mine[0].Timestamp))
	}
	slices.Sort(lives)
	note("from first to last execution: %.0f ms in the median, %.0f ms at most",
		lives[shortPods/2].Seconds()*1e3, lives[shortPods-1].Seconds()*1e3)
	require.Empty(t, tr.all(func(e line) bool { return e.Namespace == "" }), "events without a pod")
	tr.requireNoLoss()
	s.clear(t, namespace)
}

func shortName(i int) string { return fmt.Sprintf("short-%03d", i) }

// marked is an event of a container that executes "true MARK".
func marked(mark string) func(line) bool {
	return func(e line) bool { return e.Comm == "true" && slices.Equal(e.Args, []string{"/bin/true", mark}) }
}

// expectMarks wants one execution of each mark, by the container of that name.
func expectMarks(t *testing.T, tr *trace, namespace, pod string, containers ...string) {
	t.Helper()
	ids := map[string]bool{}
	for _, name := range containers {
		events := tr.await(1, marked(pod+"-"+name))
		require.Len(t, events, 1, "%s of %s", name, pod)
		e := events[0]
		require.Equal(t, []string{namespace, pod, name}, []string{e.Namespace, e.Pod, e.Container}, e)
		require.NotEmpty(t, e.ContainerID)
		ids[e.ContainerID] = true
	}
	require.Len(t, ids, len(containers), "each container has an id of its own")
}

// mark makes a container that executes "true POD-NAME" and then goes on.
func mark(pod, name, then string) corev1.Container {
	return container(name, "/bin/true "+pod+"-"+name+"; "+then)
}

// testSharedNamespaces has containers that share namespaces, with each other and with
// the node. A container is told by its cgroup, which it never shares.
func testSharedNamespaces(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	for name, share := range map[string]func(*corev1.PodSpec){
		"processes":      func(spec *corev1.PodSpec) { spec.ShareProcessNamespace = new(true) },
		"host-processes": func(spec *corev1.PodSpec) { spec.HostPID = true },
		"host-network":   func(spec *corev1.PodSpec) { spec.HostNetwork = true },
		"host-ipc":       func(spec *corev1.PodSpec) { spec.HostIPC = true },
	} {
		pod := workload(name, s.Nodes[0].Name, "")
		pod.Spec.Containers = []corev1.Container{mark(name, "one", "sleep 1"), mark(name, "two", "sleep 1")}
		share(&pod.Spec)
		s.start(t, namespace, pod)
		expectMarks(t, tr, namespace, name, "one", "two")
	}
	tr.stop()
	tr.requireNoLoss()
}

// testKindsOfContainers has init containers, one of them a sidecar, and a container
// that is added to the running pod.
func testKindsOfContainers(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	pod := workload("kinds", s.Nodes[1].Name, "")
	always := corev1.ContainerRestartPolicyAlways
	sidecar := mark("kinds", "sidecar", "sleep 1000")
	sidecar.RestartPolicy = &always
	pod.Spec.InitContainers = []corev1.Container{mark("kinds", "init", "true"), sidecar}
	pod.Spec.Containers = []corev1.Container{mark("kinds", "main", "sleep 1000")}
	pod = s.start(t, namespace, pod)

	added := mark("kinds", "ephemeral", "true")
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: added.Name, Image: added.Image, Command: added.Command,
	}}}
	_, err := s.Client.CoreV1().Pods(namespace).UpdateEphemeralContainers(t.Context(), pod.Name, pod, metav1.UpdateOptions{})
	require.NoError(t, err)
	expectMarks(t, tr, namespace, "kinds", "init", "sidecar", "main", "ephemeral")
	tr.stop()
	tr.requireNoLoss()
}

// testStaticPod has a pod that the kubelet makes of a file.
func testStaticPod(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	node := s.Nodes[0]
	pod := workload("static", "", "/bin/true static-mark; sleep 1000")
	pod.Namespace, pod.APIVersion, pod.Kind = namespace, "v1", "Pod"
	manifest := "/etc/kubernetes/manifests/static.json"
	require.NoError(t, node.WriteFile(manifest, toJSON(t, pod)))
	t.Cleanup(func() { require.NoError(t, node.RemoveFile(manifest)) })
	e := tr.await(1, marked("static-mark"))[0]
	require.Equal(t, []string{node.Name, namespace, "static-" + node.Name, "main"}, []string{e.Node, e.Namespace, e.Pod, e.Container}, e)
	tr.stop()
	tr.requireNoLoss()
}

// testSameName has a pod that is made again under its name.
func testSameName(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	var ids []string
	for life := range 3 {
		word := fmt.Sprintf("life-%d", life)
		s.start(t, namespace, workload("phoenix", s.Nodes[life%nodes].Name, "/bin/true "+word+"; sleep 1000"))
		e := tr.await(1, marked(word))[0]
		require.Equal(t, []string{s.Nodes[life%nodes].Name, "phoenix", "main"}, []string{e.Node, e.Pod, e.Container}, e)
		ids = append(ids, e.ContainerID)
		s.remove(t, namespace, "phoenix")
	}
	tr.stop()
	tr.requireNoLoss()
	slices.Sort(ids)
	require.Len(t, slices.Compact(ids), 3, "three containers")
}

// testRestart has a container that restarts in its pod.
func testRestart(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	pod := workload("again", s.Nodes[0].Name, "/bin/true again; sleep 0.1")
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	s.start(t, namespace, pod)
	events := tr.await(2, marked("again"))
	require.NotEqual(t, events[0].ContainerID, events[1].ContainerID)
	for _, e := range events {
		require.Equal(t, []string{"again", "main"}, []string{e.Pod, e.Container}, e)
	}
	tr.stop()
}
