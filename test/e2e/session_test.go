// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// block is one of code in a document, with the file name that stands before it.
type block struct {
	file  string
	lines []string
}

var blocks = regexp.MustCompile("(?ms)(?:^`([a-z]+\\.yaml)`:\n\n)?^```[a-z]*\n(.*?)\n```$")

// blocksIn are the blocks of code of a text, in their order.
func blocksIn(text string) []block {
	var all []block
	for _, match := range blocks.FindAllStringSubmatch(text, -1) {
		all = append(all, block{file: match[1], lines: strings.Split(strings.ReplaceAll(match[2], "\\\n", " "), "\n")})
	}
	return all
}

// testSessionGuide does what docs/sessions.md says, to the letter.
func testSessionGuide(t *testing.T, s *suite) {
	sh := s.shell(t)
	s.makeShop(t)
	sh.work = t.TempDir()
	guide, err := os.ReadFile(filepath.Join(root, "docs/sessions.md"))
	require.NoError(t, err)
	all := blocksIn(string(guide))
	require.Greater(t, len(all), 6)
	for _, b := range all {
		if b.file != "" {
			text := strings.Join(b.lines, "\n") + "\n"
			require.NoError(t, os.WriteFile(filepath.Join(sh.work, b.file), []byte(text), 0o600))
			continue
		}
		for _, line := range b.lines {
			t.Log(line)
			s.follow(t, sh, line)
		}
	}
}

// follow runs a line of the guide, and makes sure of what a reader would expect of it.
func (s *suite) follow(t *testing.T, sh *shell, line string) {
	t.Helper()
	switch {
	case strings.Contains(line, " logs ") && strings.Contains(line, " -f"):
		sh.runUntil(t, line, "cart-7d9f")
	case strings.Contains(line, " logs "):
		eventually(t, func() error {
			if said := sh.run(t, line); !strings.Contains(said, "cart-7d9f") {
				return fmt.Errorf("%s shows no event of the cart:\n%s", line, said)
			}
			return nil
		})
	case strings.Contains(line, " describe "):
		require.Contains(t, sh.run(t, line), "Running")
	case strings.Contains(line, "session list"), strings.Contains(line, " get "):
		require.Regexp(t, "carts-exec|root-execs", sh.run(t, line))
	default:
		require.NotEmpty(t, sh.run(t, line))
	}
}

// tracing are the objects of sessions of a namespace, or of the cluster.
func (s *suite) tracing(t *testing.T, kind, namespace string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(s.Config)
	require.NoError(t, err)
	all := client.Resource(v1alpha1.GroupVersion.WithResource(kind))
	if namespace == "" {
		return all
	}
	return all.Namespace(namespace)
}

// awaitSession returns when a session's status is as wanted.
func awaitSession(t *testing.T, sessions dynamic.ResourceInterface, name string, wanted func(status *v1alpha1.SessionStatus) bool) *v1alpha1.TraceSession {
	t.Helper()
	var last v1alpha1.TraceSession
	eventually(t, func() error {
		object, err := sessions.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		last = v1alpha1.TraceSession{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &last); err != nil {
			return err
		}
		if !wanted(&last.Status) {
			return fmt.Errorf("session %s is %s: %+v", name, last.Status.Phase, last.Status)
		}
		return nil
	})
	return &last
}

// runsEverywhere says whether a session runs on all nodes.
func runsEverywhere(status *v1alpha1.SessionStatus) bool {
	return status.Phase == v1alpha1.SessionRunning && status.Nodes.Running == nodes
}

func testSessions(t *testing.T, s *suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Fast", testSessionIsFast},
		{"Many", testManySessions},
		{"Edited", testSessionEdited},
		{"Outputs", testOutputs},
		{"AgentKilled", testSessionAgentKilled},
		{"Failover", testSessionFailover},
		{"NamespaceDeleted", testSessionNamespaceDeleted},
		{"ClientKilled", testClientKilled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// testSessionIsFast measures how long it takes from apply until all nodes run it.
func testSessionIsFast(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	sessions := s.tracing(t, "tracesessions", namespace)
	begin := time.Now()
	s.run(t, "trace", "open", "-n", namespace, "--detach", "--name", "opens")
	awaitSession(t, sessions, "opens", runsEverywhere)
	took := time.Since(begin)
	note("a session runs on all nodes %.2f s after it was made", took.Seconds())
	require.Less(t, took, 5*time.Second)
}

// testManySessions runs 50 sessions of one gadget, which share what is loaded.
func testManySessions(t *testing.T, s *suite) {
	const total = 50
	namespaces := []string{s.namespace(t), s.namespace(t)}
	begin := time.Now()
	for i := range total {
		s.run(t, "trace", "exec", "-n", namespaces[i%2], "--detach", "--name", fmt.Sprint("many-", i), "--retain", "100")
	}
	note("%d sessions made in %.1f s", total, time.Since(begin).Seconds())
	for i := range total {
		awaitSession(t, s.tracing(t, "tracesessions", namespaces[i%2]), fmt.Sprint("many-", i), runsEverywhere)
	}
	note("all run on all nodes after %.1f s", time.Since(begin).Seconds())
	s.start(t, namespaces[0], ticking("tick", s.Nodes[0].Name))
	for _, i := range []int{0, 24, 48} {
		s.awaitLogs(t, s.Kubeconfig, namespaces[0], fmt.Sprint("many-", i))
	}
	for _, namespace := range namespaces {
		require.NoError(t, s.tracing(t, "tracesessions", namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	}
}

// testSessionEdited changes a session's spec again and again while pods count on both
// nodes: each number is recorded once.
func testSessionEdited(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	sessions := s.tracing(t, "tracesessions", namespace)
	s.run(t, "trace", "exec", "-n", namespace, "--comm", "true", "--detach", "--name", "counts", "--retain", "100000")
	awaitSession(t, sessions, "counts", runsEverywhere)
	const total = 400
	for _, n := range s.Nodes {
		script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); /bin/true count-$i; usleep 10000; done", total)
		s.start(t, namespace, workload("count-"+n.Name, n.Name, script))
	}
	for i := range 6 {
		patch := fmt.Sprintf(`{"spec":{"filter":"pid > %d","params":{"comm":"true","uid":"%d"}}}`, i, -(i % 2))
		edited, err := sessions.Patch(t.Context(), "counts", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err)
		awaitSession(t, sessions, "counts", func(status *v1alpha1.SessionStatus) bool {
			return status.ObservedGeneration == edited.GetGeneration() && runsEverywhere(status)
		})
	}
	for _, n := range s.Nodes {
		s.awaitPhase(t, namespace, "count-"+n.Name, corev1.PodSucceeded)
	}
	awaitSession(t, sessions, "counts", func(status *v1alpha1.SessionStatus) bool { return status.Events >= nodes*total })
	counted := map[string]int{}
	for _, text := range strings.Split(strings.TrimSpace(s.run(t, "session", "logs", "counts", "-n", namespace, "-o", "json")), "\n") {
		var e line
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		counted[e.Pod]++
		require.Equal(t, fmt.Sprint("count-", counted[e.Pod]), e.Args[1], "in order, each once")
	}
	require.Equal(t, map[string]int{"count-node1": total, "count-node2": total}, counted)
}

// testSessionAgentKilled kills an agent: its sessions are back within ten seconds, and
// it is said that something is missing.
func testSessionAgentKilled(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	sessions := s.tracing(t, "tracesessions", namespace)
	s.run(t, "trace", "exec", "-n", namespace, "--detach", "--name", "kept")
	awaitSession(t, sessions, "kept", runsEverywhere)
	time.Sleep(6 * time.Second) // A node that begins later than that says so.
	pids, err := s.Nodes[0].Find("gadget-agent")
	require.NoError(t, err)
	require.Len(t, pids, 1)
	require.NoError(t, s.Nodes[0].Signal(pids[0], unix.SIGKILL))
	killed := time.Now()
	status := awaitSession(t, sessions, "kept", func(status *v1alpha1.SessionStatus) bool { return status.Gaps > 0 && runsEverywhere(status) }).Status
	note("sessions of %s are back %.1f s after its agent was killed", s.Nodes[0].Name, time.Since(killed).Seconds())
	require.Less(t, time.Since(killed), 20*time.Second)
	require.Equal(t, s.Nodes[0].Name, status.LastGap.Node)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	said, err := plugin(ctx, s.Kubeconfig, "session", "logs", "kept", "-n", namespace).CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Contains(t, string(said), "recording on this node began at")
}

// testSessionFailover has two controllers, and takes the one away that writes status.
func testSessionFailover(t *testing.T, s *suite) {
	deployments := s.Client.AppsV1().Deployments(installed)
	scale := func(replicas int) {
		patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
		_, err := deployments.Patch(t.Context(), "nodegadget-controller", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err)
		eventually(t, func() error {
			d, err := deployments.Get(t.Context(), "nodegadget-controller", metav1.GetOptions{})
			if err == nil && (int(d.Status.ReadyReplicas) != replicas || int(d.Status.Replicas) != replicas) {
				err = fmt.Errorf("%d of %d controllers are ready", d.Status.ReadyReplicas, replicas)
			}
			return err
		})
	}
	scale(2)
	namespace := s.namespace(t)
	sessions := s.tracing(t, "tracesessions", namespace)
	s.run(t, "trace", "exec", "-n", namespace, "--detach", "--name", "before")
	awaitSession(t, sessions, "before", runsEverywhere)
	lease, err := s.Client.CoordinationV1().Leases(installed).Get(t.Context(), "nodegadget-controller", metav1.GetOptions{})
	require.NoError(t, err)
	leader, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	require.NoError(t, s.Client.CoreV1().Pods(installed).Delete(t.Context(), leader, metav1.DeleteOptions{}))
	gone := time.Now()
	s.run(t, "trace", "exec", "-n", namespace, "--detach", "--name", "after")
	awaitSession(t, sessions, "after", runsEverywhere)
	note("another controller writes status %.1f s after the first is gone", time.Since(gone).Seconds())
	s.awaitGone(t, installed, leader)
	scale(1)
}

// testSessionNamespaceDeleted deletes a namespace with a session in it.
func testSessionNamespaceDeleted(t *testing.T, s *suite) {
	namespaces := s.Client.CoreV1().Namespaces()
	made, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "gone-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	s.run(t, "trace", "exec", "-n", made.Name, "--detach", "--name", "execs")
	awaitSession(t, s.tracing(t, "tracesessions", made.Name), "execs", runsEverywhere)
	require.NoError(t, namespaces.Delete(t.Context(), made.Name, metav1.DeleteOptions{}))
	eventually(t, func() error {
		_, err := namespaces.Get(t.Context(), made.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("namespace %s is still there: %w", made.Name, err)
	})
}

// testClientKilled kills a plugin: its session is gone within half a minute.
func testClientKilled(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	sessions := s.tracing(t, "tracesessions", namespace)
	tr := s.trace(t, "trace", "exec", "-n", namespace)
	list, err := sessions.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1, "an interactive run is a session")
	require.NoError(t, tr.cmd.Process.Kill())
	killed := time.Now()
	eventually(t, func() error {
		list, err := sessions.List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%s is still there", list.Items[0].GetName())
		}
		return err
	})
	note("the session of a client that was killed is gone after %.1f s", time.Since(killed).Seconds())
	require.Less(t, time.Since(killed), 30*time.Second)
}
