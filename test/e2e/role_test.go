// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// runAs runs the plugin as a user to its end, and returns what it prints.
func (s *suite) runAs(t *testing.T, kubeconfig string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := plugin(ctx, kubeconfig, args...).CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
	return string(out)
}

// testRoles has a user with each of the chart's roles, and tries what they may and what
// they may not.
func testRoles(t *testing.T, s *suite) {
	mine, other := s.namespace(t), s.namespace(t)
	s.start(t, mine, ticking("tick", s.Nodes[0].Name))
	viewer, tracer := s.tenant(t, "vera", mine, "nodegadget-viewer"), s.tenant(t, "tom", mine, "nodegadget-tracer")
	node, err := s.AddUser("nora", tracers)
	require.NoError(t, err)
	bindings := s.Client.RbacV1().ClusterRoleBindings()
	_, err = bindings.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "nora"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "nodegadget-node-tracer"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "nora"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, bindings.Delete(context.WithoutCancel(t.Context()), "nora", metav1.DeleteOptions{}))
	})

	// The tracer makes a session in the namespace, and reads it.
	s.runAs(t, tracer, "trace", "exec", "-n", mine, "--detach", "--name", "execs")
	s.awaitLogs(t, tracer, mine, "execs")
	// The viewer sees that it is there, and not what it shows.
	require.Contains(t, s.runAs(t, viewer, "session", "list", "-n", mine), "execs")
	require.Contains(t, s.runAs(t, viewer, "session", "describe", "execs", "-n", mine), "trace")
	refused(t, viewer, "session", "logs", "execs", "-n", mine)
	for _, args := range [][]string{
		{"trace", "exec", "-n", mine, "--timeout", "5s"},
		{"trace", "exec", "-n", mine, "--detach", "--name", "mine"},
		{"session", "suspend", "execs", "-n", mine},
		{"session", "delete", "execs", "-n", mine},
	} {
		refused(t, viewer, args...)
	}
	for _, args := range [][]string{
		{"trace", "exec", "-n", other, "--detach"},
		{"trace", "exec", "-A", "--detach"},
		{"trace", "exec", "-n", mine, "--host", "--detach"},
		{"session", "list", "-n", other},
		{"session", "list", "--cluster"},
	} {
		refused(t, tracer, args...)
	}
	// The node tracer may all of it, everywhere.
	s.runAs(t, node, "trace", "exec", "-A", "--host", "--detach", "--name", "everything", "--ttl", "10m")
	require.Contains(t, s.runAs(t, node, "session", "list", "-A"), "everything")
	require.Contains(t, s.runAs(t, node, "session", "logs", "execs", "-n", mine), "tick")
	refused(t, tracer, "session", "logs", "everything", "--cluster")
	s.runAs(t, node, "session", "delete", "everything", "--cluster")
	s.runAs(t, tracer, "session", "delete", "execs", "-n", mine)
	s.takeRight(t, tracer, mine, "tom")
}

// takeRight takes a tracer's right away while they trace and while they read a session,
// which ends both.
func (s *suite) takeRight(t *testing.T, kubeconfig, namespace, user string) {
	t.Helper()
	s.runAs(t, kubeconfig, "trace", "exec", "-n", namespace, "--detach", "--name", "last")
	runs := []*trace{
		s.traceAs(t, kubeconfig, "trace", "exec", "-n", namespace),
		s.traceAs(t, kubeconfig, "session", "logs", "last", "-f", "-n", namespace),
	}
	mine := func(e line) bool { return e.Namespace == namespace }
	for _, tr := range runs {
		tr.await(5, mine)
	}
	require.NoError(t, s.Client.RbacV1().RoleBindings(namespace).Delete(t.Context(), user, metav1.DeleteOptions{}))
	for _, tr := range runs {
		select {
		case <-tr.ended:
		case <-time.After(patience):
			t.Fatalf("the run goes on\n%s", tr.said)
		}
		require.Error(t, tr.err)
		require.Contains(t, tr.said.String(), "a right was withdrawn")
	}
}

// awaitLogs returns when a session has recorded something, as its reader sees it.
func (s *suite) awaitLogs(t *testing.T, kubeconfig, namespace, name string) {
	t.Helper()
	eventually(t, func() error {
		if said := s.runAs(t, kubeconfig, "session", "logs", name, "-n", namespace, "-o", "json"); said[0] != '{' {
			return fmt.Errorf("session %s has recorded nothing: %s", name, said)
		}
		return nil
	})
}
