// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ticking executes "true NAME" ten times a second.
func ticking(name, node string) *corev1.Pod {
	return workload(name, node, "while true; do /bin/true "+name+"; usleep 100000; done")
}

// label sets or, if value is nil, removes a label of a pod.
func (s *suite) label(t *testing.T, namespace, pod, key string, value any) {
	t.Helper()
	patch := toJSON(t, map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}})
	_, err := s.Client.CoreV1().Pods(namespace).Patch(t.Context(), pod, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
}

// testSelectors traces by pod, container, label and node.
func testSelectors(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	for i, name := range []string{"one", "two"} {
		pod := ticking(name, s.Nodes[i].Name)
		pod.Labels = map[string]string{"app": name}
		side := container("side", "while true; do /bin/true "+name+"; usleep 100000; done")
		pod.Spec.Containers = append(pod.Spec.Containers, side)
		s.start(t, namespace, pod)
	}
	for _, test := range []struct {
		name string
		args []string
		want func(line) bool
	}{
		{"pod", []string{"-p", "one"}, func(e line) bool { return e.Pod == "one" }},
		{"container", []string{"-c", "side"}, func(e line) bool { return e.Container == "side" }},
		{"label", []string{"-l", "app=two"}, func(e line) bool { return e.Pod == "two" }},
		{"labels", []string{"-l", "app in (one, three)", "-c", "main"}, func(e line) bool { return e.Pod == "one" && e.Container == "main" }},
		{"node", []string{"--node", s.Nodes[1].Name}, func(e line) bool { return e.Node == s.Nodes[1].Name }},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := s.traceAs(t, s.Kubeconfig, append([]string{"trace", "exec", "-n", namespace}, test.args...)...)
			tr.await(10, test.want)
			tr.stop()
			require.Empty(t, tr.all(func(e line) bool { return !test.want(e) }))
		})
	}
}

// testLiveLabels changes a pod's labels while it is traced by them.
func testLiveLabels(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	s.start(t, namespace, ticking("cart", s.Nodes[0].Name))
	tr := s.trace(t, "trace", "exec", "-n", namespace, "-l", "traced=yes")
	every := func(line) bool { return true }
	time.Sleep(time.Second)
	require.Empty(t, tr.all(every), "before it has the label")
	s.label(t, namespace, "cart", "traced", "yes")
	tr.await(5, every)
	s.label(t, namespace, "cart", "traced", "no")
	quiet := func() bool {
		before := len(tr.all(every))
		time.Sleep(time.Second)
		return len(tr.all(every)) == before
	}
	require.Eventually(t, quiet, patience, 10*time.Millisecond, "after it has another")
	s.label(t, namespace, "cart", "traced", "yes")
	tr.await(len(tr.all(every))+5, every)
	tr.stop()
	tr.requireNoLoss()
}

// tracers is the group that may reach the controller.
const tracers = "tracers"

// tenant makes a user with one of the chart's roles in a namespace, and returns the path
// of a kubeconfig.
func (s *suite) tenant(t *testing.T, name, namespace, role string) string {
	t.Helper()
	kubeconfig, err := s.AddUser(name, tracers)
	require.NoError(t, err)
	_, err = s.Client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return kubeconfig
}

// testTenants has two users, each of whom may trace one namespace and sees nothing of
// the other, whatever flags are set.
func testTenants(t *testing.T, s *suite) {
	namespaces := []string{s.namespace(t), s.namespace(t)}
	kubeconfigs := make([]string, 2)
	for i, name := range []string{"alice", "bob"} {
		kubeconfigs[i] = s.tenant(t, name, namespaces[i], "nodegadget-tracer")
		s.start(t, namespaces[i], ticking(name, s.Nodes[0].Name))
	}
	for i, kubeconfig := range kubeconfigs {
		mine, other := namespaces[i], namespaces[1-i]
		tr := s.traceAs(t, kubeconfig, "trace", "exec", "-n", mine)
		tr.await(10, func(e line) bool { return e.Namespace == mine })
		narrow := s.traceAs(t, kubeconfig, "trace", "exec", "-n", mine, "--node", s.Nodes[0].Name)
		narrow.await(5, func(e line) bool { return e.Namespace == mine && e.Node == s.Nodes[0].Name })
		narrow.stop()
		tr.stop()
		require.Empty(t, tr.all(func(e line) bool { return e.Namespace != mine }))
		// Who may do everything may be anybody, and then may no more than they.
		refused(t, s.Kubeconfig, "trace", "exec", "-n", other, "--timeout", "5s", "--as", []string{"alice", "bob"}[i], "--as-group", tracers)
		for _, flags := range [][]string{
			{"-n", other},
			{"-A"},
			{"-n", other, "-p", "bob"},
			{"-n", mine, "--host"},
			{"-n", other, "--node", s.Nodes[0].Name},
			{"-A", "-l", "app=cart"},
		} {
			refused(t, kubeconfig, append([]string{"trace", "exec", "-o", "json", "--timeout", "5s"}, flags...)...)
		}
	}
}

// testHost traces what runs on the nodes outside of containers, each node its own: though
// here both share a kernel.
func testHost(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	tr := s.trace(t, "trace", "exec", "-A", "--host")
	for _, n := range s.Nodes {
		pod := s.start(t, namespace, workload("on-"+n.Name, n.Name, "sleep 1000"))
		_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
		// runc is told the id of the container that it is to make.
		for _, e := range tr.await(1, func(e line) bool { return e.Pod == "" && e.has(id) && e.has("create") }) {
			require.Equal(t, n.Name, e.Node, e)
		}
	}
	tr.stop()
	tr.requireNoLoss()
}

// refused wants the plugin to fail, to say that it is forbidden, and to show nothing.
func refused(t *testing.T, kubeconfig string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := plugin(ctx, kubeconfig, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.Error(t, cmd.Run(), fmt.Sprint(args))
	require.Equal(t, 1, cmd.ProcessState.ExitCode(), fmt.Sprint(args))
	require.Contains(t, stderr.String(), "may not", fmt.Sprint(args))
	require.Empty(t, stdout.String(), fmt.Sprint(args))
}
