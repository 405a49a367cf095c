// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// TestNoPodIsPrivileged wants the least privilege of every container, however the
// chart is set up.
func TestNoPodIsPrivileged(t *testing.T) {
	eachCase(t, func(t *testing.T, all []object) {
		for name, pod := range pods(all) {
			require.False(t, pod.HostNetwork || pod.HostIPC, name)
			require.False(t, *pod.AutomountServiceAccountToken, name)
			require.Empty(t, pod.InitContainers, name)
			require.Len(t, pod.Containers, 1, name)
			c := pod.Containers[0]
			security := c.SecurityContext
			require.True(t, security.Privileged == nil || !*security.Privileged, name)
			require.False(t, *security.AllowPrivilegeEscalation, name)
			require.True(t, *security.ReadOnlyRootFilesystem, name)
			require.Equal(t, []corev1.Capability{"ALL"}, security.Capabilities.Drop, name)
			require.NotEqual(t, corev1.SeccompProfileTypeUnconfined, security.SeccompProfile.Type, name)
			require.NotEmpty(t, c.Resources.Limits.Memory().String(), name)
			if !strings.HasPrefix(name, "nodegadget-agent") {
				require.True(t, *security.RunAsNonRoot, name)
				require.Empty(t, security.Capabilities.Add, name)
				require.False(t, pod.HostPID, name)
			}
		}
	})
}

// TestCapabilities wants of agents what the values say, SYS_ADMIN only for old kernels.
func TestCapabilities(t *testing.T) {
	for values, want := range map[string][]corev1.Capability{
		"{}":                                   {"BPF", "PERFMON", "SYS_RESOURCE"},
		"agent: {capabilities: [BPF]}":         {"BPF"},
		"agent: {capabilities: []}":            {},
		"agent: {legacyKernels: true}":         {"BPF", "PERFMON", "SYS_RESOURCE", "SYS_ADMIN"},
		"agent: {capabilities: [BPF, SYSLOG]}": {"BPF", "SYSLOG"},
	} {
		pod := pods(objects(t, render(t, kubeVersion, values)))["nodegadget-agent"]
		require.Equal(t, want, pod.Containers[0].SecurityContext.Capabilities.Add, values)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.Containers[0].SecurityContext.SeccompProfile.Type, values)
	}
}

// TestHostPaths wants every directory of the node to be read-only, explained, and in
// agents alone.
func TestHostPaths(t *testing.T) {
	eachCase(t, func(t *testing.T, all []object) {
		for _, o := range all {
			pod, ok := pods([]object{o})[o.GetName()]
			if !ok {
				continue
			}
			mounts := make(map[string]corev1.VolumeMount)
			for _, m := range pod.Containers[0].VolumeMounts {
				require.True(t, m.ReadOnly, "%s: %s", o.GetName(), m.Name)
				require.Nil(t, m.MountPropagation, m.Name)
				mounts[m.Name] = m
			}
			for _, v := range pod.Volumes {
				require.Contains(t, mounts, v.Name)
				require.Nil(t, v.Secret, v.Name)
				if v.HostPath != nil {
					if v.HostPath.Type == nil || *v.HostPath.Type != corev1.HostPathFile {
						require.Equal(t, corev1.RecursiveReadOnlyIfPossible, *mounts[v.Name].RecursiveReadOnly, v.Name)
					}
					require.IsType(t, &appsv1.DaemonSet{}, o.typed)
					require.True(t, isExplained(o.text, "- name: "+v.Name, "hostPath:"), v.Name)
				}
			}
		}
	})
}

// isExplained says whether a comment stands above the item of a list that begins with
// these two lines.
func isExplained(text string, begin ...string) bool {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	for i := 1; i < len(lines)-1; i++ {
		if slices.Equal(lines[i:i+2], begin) {
			return strings.HasPrefix(lines[i-1], "#")
		}
	}
	return false
}

// sessionRule is a rule about the resources of sessions.
func sessionRule(resources, verbs string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{"nodegadget.dev"}, Resources: strings.Fields(resources), Verbs: strings.Fields(verbs)}
}

// TestAgentRights wants of the API server no more for agents than to read sessions, and
// lists of pods.
func TestAgentRights(t *testing.T) {
	sessions := sessionRule("tracesessions clustertracesessions", "get list watch")
	want := []rbacv1.PolicyRule{sessions, {APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}}}
	require.Equal(t, want, rights(objects(t, render(t, kubeVersion, "{}")), "nodegadget-agent"))
	require.Equal(t, want[:1], rights(objects(t, render(t, kubeVersion, "agent: {pods: false}")), "nodegadget-agent"))
	some := "agent: {pods: false, pools: [{name: x, nodeSelector: {a: b}, pods: true}]}"
	require.Equal(t, want, rights(objects(t, render(t, kubeVersion, some)), "nodegadget-agent"))
}

// TestUserRights wants of the roles for people what their names say: a viewer reads
// nothing that was recorded, and a tracer of a namespace nothing of the cluster.
func TestUserRights(t *testing.T) {
	const all = "get list watch create update patch delete deletecollection"
	roles := make(map[string][]rbacv1.PolicyRule)
	for _, o := range objects(t, render(t, kubeVersion, "{}")) {
		if role, ok := o.typed.(*rbacv1.ClusterRole); ok {
			roles[role.Name] = role.Rules
		}
	}
	require.Equal(t, []rbacv1.PolicyRule{
		sessionRule("tracesessions clustertracesessions", "get list watch"),
	}, roles["nodegadget-viewer"])
	require.Equal(t, []rbacv1.PolicyRule{
		sessionRule("tracesessions", all), sessionRule("tracesessions/stream", "create get"),
	}, roles["nodegadget-tracer"])
	require.Equal(t, []rbacv1.PolicyRule{
		sessionRule("tracesessions clustertracesessions", all),
		sessionRule("tracesessions/stream clustertracesessions/stream", "create get"),
	}, roles["nodegadget-node-tracer"])
}

// TestStatusIsTheControllers wants nobody else to write what sessions are said to do.
func TestStatusIsTheControllers(t *testing.T) {
	eachCase(t, func(t *testing.T, all []object) {
		for _, o := range all {
			if role, ok := o.typed.(*rbacv1.ClusterRole); ok && role.Name != "nodegadget-controller" {
				for _, rule := range role.Rules {
					require.NotContains(t, strings.Join(rule.Resources, " "), "/status", role.Name)
					require.NotContains(t, strings.Join(rule.Resources, " "), "/finalizers", role.Name)
				}
			}
		}
	})
}

// TestRights wants nobody to have what is dangerous.
func TestRights(t *testing.T) {
	eachCase(t, func(t *testing.T, all []object) {
		for _, o := range all {
			var rules []rbacv1.PolicyRule
			switch typed := o.typed.(type) {
			case *rbacv1.ClusterRole:
				rules = typed.Rules
				for _, rule := range rules {
					require.NotContains(t, rule.Resources, "secrets", o.GetName())
					require.NotContains(t, rule.Resources, "configmaps", o.GetName())
				}
			case *rbacv1.Role:
				rules = typed.Rules
			}
			for _, rule := range rules {
				require.NotContains(t, strings.Join(slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs), " "), "*", o.GetName())
				for _, resource := range rule.Resources {
					require.NotContains(t, []string{"nodes", "nodes/proxy", "pods/exec", "pods/attach", "serviceaccounts/token"}, resource, o.GetName())
				}
				dangerous := []string{"escalate", "bind", "impersonate"}
				if !slices.Equal(rule.APIGroups, []string{"nodegadget.dev"}) {
					dangerous = append(dangerous, "delete", "deletecollection")
				}
				for _, verb := range dangerous {
					require.NotContains(t, rule.Verbs, verb, o.GetName())
				}
				if slices.Contains(rule.Resources, "secrets") {
					require.False(t, slices.Contains(rule.Verbs, "list") || slices.Contains(rule.Verbs, "watch"), o.GetName())
					require.True(t, len(rule.ResourceNames) > 0 || slices.Equal(rule.Verbs, []string{"create"}), o.GetName())
				}
			}
		}
	})
}

// TestNobodyIsBoundUnasked wants no right to trace, or to reach the controller, before
// an administrator gives it.
func TestNobodyIsBoundUnasked(t *testing.T) {
	for _, o := range objects(t, render(t, kubeVersion, "{}")) {
		var subjects []rbacv1.Subject
		switch typed := o.typed.(type) {
		case *rbacv1.ClusterRoleBinding:
			subjects = typed.Subjects
		case *rbacv1.RoleBinding:
			subjects = typed.Subjects
		}
		for _, s := range subjects {
			if s.Kind != rbacv1.ServiceAccountKind {
				require.Equal(t, "nodegadget-authority-reader", o.GetName())
			}
		}
	}
}

// TestNetworkPolicy wants pods to be reachable by those alone that have to.
func TestNetworkPolicy(t *testing.T) {
	policies := make(map[string]networkingv1.NetworkPolicySpec)
	for _, o := range objects(t, render(t, kubeVersion, "{}")) {
		if p, ok := o.typed.(*networkingv1.NetworkPolicy); ok {
			policies[p.Name] = p.Spec
		}
	}
	require.Len(t, policies, 2)
	for name, p := range policies {
		require.Equal(t, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, p.PolicyTypes, name)
		require.Len(t, p.Ingress, 1, name)
		require.Len(t, p.Ingress[0].From, 1, name)
		require.Nil(t, p.Ingress[0].From[0].NamespaceSelector, name)
		require.Equal(t, "grpc", p.Ingress[0].Ports[0].Port.StrVal, name)
	}
	from := policies["nodegadget-agent"].Ingress[0].From[0].PodSelector.MatchLabels
	require.Equal(t, map[string]string{"app.kubernetes.io/name": "nodegadget", "app.kubernetes.io/component": "controller"}, from)
}
