// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// TestPoolsDontOverlap wants each node to have exactly one agent: that of the first
// pool which selects it.
func TestPoolsDontOverlap(t *testing.T) {
	text, err := os.ReadFile("testdata/pools.values.yaml")
	require.NoError(t, err)
	all := pods(objects(t, render(t, kubeVersion, string(text))))
	maps.DeleteFunc(all, func(_ string, pod corev1.PodSpec) bool { return pod.ServiceAccountName != "nodegadget-agent" })
	require.Len(t, all, 4)
	for _, arch := range []string{"amd64", "arm64"} {
		for _, kernel := range []string{"", "5.10", "4.18", "6.1"} {
			for _, role := range []string{"", "ingress", "db"} {
				node := node(arch, kernel, role)
				want := "nodegadget-agent"
				switch {
				case kernel == "5.10" && arch == "amd64":
					want += "-nobtf"
				case kernel == "4.18":
					want += "-legacy"
				case role == "ingress":
					want += "-busy"
				}
				var got []string
				for name, pod := range all {
					if fits(t, pod, node) {
						got = append(got, name)
					}
				}
				require.Equal(t, []string{want}, got, node)
			}
		}
	}
}

func node(arch, kernel, role string) labels.Set {
	node := labels.Set{"kubernetes.io/os": "linux", "kubernetes.io/arch": arch}
	if kernel != "" {
		node["example.com/kernel"] = kernel
	}
	if role != "" {
		node["example.com/role"] = role
	}
	return node
}

// fits says whether the scheduler would put a pod on a node with these labels: the
// selector has to match, and one of the affinity's terms.
func fits(t *testing.T, pod corev1.PodSpec, node labels.Set) bool {
	t.Helper()
	if !labels.SelectorFromSet(pod.NodeSelector).Matches(node) {
		return false
	}
	if pod.Affinity == nil {
		return true
	}
	terms := pod.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	require.NotEmpty(t, terms)
	return slices.ContainsFunc(terms, func(term corev1.NodeSelectorTerm) bool {
		require.NotEmpty(t, term.MatchExpressions)
		return !slices.ContainsFunc(term.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool {
			require.Equal(t, corev1.NodeSelectorOpNotIn, e.Operator)
			want, err := labels.NewRequirement(e.Key, selection.NotIn, e.Values)
			require.NoError(t, err)
			return !want.Matches(node)
		})
	})
}

// TestPoolsOverride wants a pool's values to replace those of all agents, also those
// that are false, empty or 0.
func TestPoolsOverride(t *testing.T) {
	all := pods(objects(t, render(t, kubeVersion, `
image: {tag: one, digest: "sha256:`+fmt.Sprintf("%064d", 1)+`"}
agent:
  maxRuns: 5
  btf: {service: {url: "https://btf.example.com"}}
  pools:
    - {name: same, nodeSelector: {a: same}}
    - name: other
      nodeSelector: {a: other}
      image: {tag: two}
      hostPID: false
      pods: false
      sessions: {enabled: false}
      maxRuns: 0
      tolerations: []
      capabilities: []
      priorityClassName: ""
      btf: {bundle: false, hostFiles: false, service: {url: ""}}
      resources: {limits: {memory: 1Gi}}
`)))
	rest, same, other := all["nodegadget-agent"], all["nodegadget-agent-same"], all["nodegadget-agent-other"]
	require.Equal(t, rest.Containers, same.Containers)
	require.Equal(t, rest.Volumes, same.Volumes)
	require.Equal(t, rest.Tolerations, same.Tolerations)
	require.True(t, rest.HostPID)
	require.Contains(t, rest.Containers[0].Image, "nodegadget:one@sha256:")
	require.Contains(t, rest.Containers[0].Args, "--max-runs=5")

	require.False(t, other.HostPID)
	require.Empty(t, other.Tolerations)
	require.Empty(t, other.PriorityClassName)
	require.Equal(t, "nodegadget:two", other.Containers[0].Image)
	require.Empty(t, other.Containers[0].SecurityContext.Capabilities.Add)
	require.Contains(t, other.Containers[0].Args, "--pods=false")
	require.Contains(t, other.Containers[0].Args, "--sessions=false")
	require.NotContains(t, fmt.Sprint(other.Containers[0].Args), "--max-runs")
	require.NotContains(t, fmt.Sprint(other.Containers[0].Args), "--btf-service")
	require.Equal(t, "1Gi", other.Containers[0].Resources.Limits.Memory().String())
	require.Equal(t, "64Mi", other.Containers[0].Resources.Requests.Memory().String())
	var volumes []string
	for _, v := range other.Volumes {
		volumes = append(volumes, v.Name)
	}
	require.Equal(t, []string{"cgroup", "tracing", "runtime", "os-release", "no-bundle", "authority", "token"}, volumes)
}

// TestTooManyPools wants pools to be refused that would make an affinity without end.
func TestTooManyPools(t *testing.T) {
	text := "agent:\n  pools:\n"
	for i := range 4 {
		text += fmt.Sprintf("    - {name: p%d, nodeSelector: {a: x, b: x, c: x}}\n", i)
	}
	c := load(t)
	all, err := values(t, c, kubeVersion, text)
	require.NoError(t, err)
	_, err = engine.Engine{}.RenderWithContext(t.Context(), c, all)
	require.ErrorContains(t, err, "agent.pools: too many labels to tell nodes apart")
}

func TestFilesOfSessions(t *testing.T) {
	all := pods(objects(t, render(t, kubeVersion, `
agent:
  sessions: {limit: 8, files: {enabled: true, path: /data/trace, bytes: 1000000}, endpoints: ["otel.example.com:4317"]}
`)))
	agent := all["nodegadget-agent"]
	require.Subset(t, agent.Containers[0].Args, []string{
		"--sessions=true", "--session-limit=8", "--session-files=/var/lib/nodegadget/sessions", "--session-file-bytes=1000000",
		"--session-endpoint=otel.example.com:4317",
	})
	require.NotContains(t, fmt.Sprint(agent.Containers[0].Args), "--session-rate")
	for _, v := range agent.Volumes {
		if v.Name == "sessions" {
			require.Equal(t, "/data/trace", v.HostPath.Path)
			return
		}
	}
	require.Fail(t, "no volume for the files")
}
