// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"nodegadget.dev/test/e2e/image"
)

// nodeStatus, nodeFindings and finding are what status and doctor print of a node, as
// far as the tests look at it.
type (
	nodeStatus struct {
		Node, Error, Kernel, Cgroup, BTF, BTFReason string
		Unsupported                                 []string
	}
	nodeFindings struct {
		Node, Error string
		Findings    []finding
	}
	finding struct{ Gadget, Severity, Problem, Remedy string }
)

// testBundle shows that one installation serves all three kernels.
func testBundle(t *testing.T, s *suite) {
	s.install(t)
	s.awaitAgents(t)
	t.Logf("\n%s", s.run(t, "status"))
	kernels := map[string]string{}
	for _, n := range s.status(t) {
		kernels[n.Kernel] = n.Node
		want := "in-kernel"
		if n.Node == untyped {
			want = "bundle"
		}
		require.Equal(t, want, n.BTF, "%s: %s", n.Node, n.BTFReason)
		if n.Node == typed || n.Node == untyped {
			require.Equal(t, "v2", n.Cgroup, n.Node)
		}
	}
	require.Len(t, kernels, 3, "kernels in status")
	for _, n := range s.doctor(t) {
		require.Empty(t, n.broken(""), n.Node)
	}
	s.requireAttribution(t, s.nodes())
	s.requireExcuse(t)
}

// requireExcuse wants a run to say what a kernel lacks that no bundle can give it, and
// to show what the others have.
func (s *suite) requireExcuse(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := s.plugin(ctx, "snapshot", "process", "-A", "-o", "json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), &stderr)
	require.Regexp(t, `(?m)^node `+untyped+`: didn't take part: .*needs a kernel that carries its own BTF`, stderr.String())
	for _, node := range s.nodes() {
		has := strings.Contains(stdout.String(), `"node":"`+node+`"`)
		require.Equal(t, node != untyped, has, "rows of %s", node)
	}
}

// testNoBundle shows that without the bundle the node whose kernel has no types says
// so, wherever one looks, and that the others don't care.
func testNoBundle(t *testing.T, s *suite) {
	s.upgrade(t, withoutBundle)
	s.awaitAgents(t)
	text := s.run(t, "status")
	t.Logf("\n%s", text)
	require.Regexp(t, `(?m)^`+untyped+` can't run gadgets: .*no BTF`, text)
	for _, n := range s.status(t) {
		if n.Node == untyped {
			require.Equal(t, "none", n.BTF)
			require.Contains(t, n.BTFReason, n.Kernel)
			require.NotEmpty(t, n.Unsupported)
			continue
		}
		require.Equal(t, "in-kernel", n.BTF)
		require.Empty(t, n.Unsupported)
	}
	for _, n := range s.doctor(t) {
		broken := n.broken("")
		require.Equal(t, n.Node == untyped, len(broken) > 0, "%s: %+v", n.Node, broken)
		for _, f := range broken {
			require.Contains(t, f.Problem, "no BTF")
			require.NotEmpty(t, f.Remedy)
		}
		require.Equal(t, n.Node == untyped, len(n.broken("trace exec")) > 0, n.Node)
	}
	require.Regexp(t, `(?i)no (types|BTF)`, s.agentLog(t, untyped))

	others := slices.DeleteFunc(s.nodes(), func(node string) bool { return node == untyped })
	said := s.requireAttribution(t, others)
	require.Regexp(t, `(?m)^node `+untyped+`: didn't take part: .*BTF`, said)
}

// testUninstall shows that nothing is left on nodes that nobody else looks at.
func testUninstall(t *testing.T, s *suite) {
	s.uninstall(t)
	for _, g := range s.guests {
		eventually(t, func() error {
			processes, err := g.Exec(t.Context(), "ps", "-o", "args")
			if err == nil && strings.Contains(processes, "gadget-agent") {
				err = fmt.Errorf("%s still runs an agent:\n%s", g.Name, processes)
			}
			return err
		})
		pins, err := g.Exec(t.Context(), "ls", "-A", "/sys/fs/bpf")
		require.NoError(t, err)
		require.Empty(t, pins)
	}
}

// status returns what is known of every node.
func (s *suite) status(t *testing.T) []nodeStatus {
	t.Helper()
	var nodes []nodeStatus
	s.ask(t, &nodes, "status")
	require.Len(t, nodes, len(s.nodes()))
	for _, n := range nodes {
		require.Contains(t, s.nodes(), n.Node)
	}
	return nodes
}

// doctor returns the findings of every node. There is always one for which the exit
// status stands: no bundle makes an iterator run on a kernel without BTF of its own.
func (s *suite) doctor(t *testing.T) []nodeFindings {
	t.Helper()
	t.Logf("\n%s", s.runTo(t, problems, "doctor"))
	var nodes []nodeFindings
	text := s.runTo(t, problems, "doctor", "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(text), &nodes), text)
	require.Len(t, nodes, len(s.nodes()))
	for _, n := range nodes {
		require.Empty(t, n.Error, n.Node)
	}
	return nodes
}

// broken are the findings of what doesn't work: of a gadget, or of all.
func (n nodeFindings) broken(gadget string) []finding {
	return slices.DeleteFunc(slices.Clone(n.Findings), func(f finding) bool {
		return f.Gadget != gadget || f.Severity != "doesn't work"
	})
}

// executions are how often a container of the test runs a program, from its first moment.
const executions = 20

// requireAttribution wants each execution of short-lived containers, on each of these
// nodes, with its pod and its container, whatever the node's kernel and cgroups are. It
// returns what the plugin said.
func (s *suite) requireAttribution(t *testing.T, nodes []string) string {
	t.Helper()
	namespace := s.namespace(t)
	tr := s.trace(t, nodes, "trace", "exec", "-A")
	for _, node := range s.nodes() {
		pod := workload(podOf(node), node, "")
		pod.Spec.Containers = nil
		for _, name := range []string{"first", "second"} {
			script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); /bin/busybox true mark $i; done", executions)
			pod.Spec.Containers = append(pod.Spec.Containers, container(name, script))
		}
		s.create(t, namespace, pod)
	}
	for _, node := range s.nodes() {
		s.awaitPhase(t, namespace, podOf(node), corev1.PodSucceeded)
	}
	var want []string
	for _, node := range nodes {
		for _, name := range []string{"first", "second"} {
			for i := range executions {
				want = append(want, fmt.Sprintf("%s %s %d", node, name, i+1))
			}
		}
	}
	tr.await("all executions", func() bool { return len(marks(t, tr.lines(namespace))) >= len(want) })
	tr.stop()
	require.ElementsMatch(t, want, marks(t, tr.lines(namespace)))
	summary := regexp.MustCompile(`(?m)^[\d,]+ events, 0 lost.*`).FindString(tr.said.String())
	require.NotEmpty(t, summary, tr.said.String())
	t.Log(summary)
	return tr.said.String()
}

// marks are the executions that containers were to make: node, container and number of
// each. What belongs to a node, a pod or an image that it can't be of is a failure.
func marks(t *testing.T, lines []line) []string {
	t.Helper()
	var found []string
	for _, l := range lines {
		require.Equal(t, podOf(l.Node), l.Pod, "%+v", l)
		if len(l.Args) != 4 || l.Args[2] != "mark" {
			continue // the runtime's, or of the shell
		}
		require.Equal(t, image.Workload, l.Image, "%+v", l)
		found = append(found, fmt.Sprintf("%s %s %s", l.Node, l.Container, l.Args[3]))
	}
	return found
}
