// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/client"
	access "nodegadget.dev/pkg/cluster"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
	"nodegadget.dev/test/scenario"
)

// testScenarios runs the scenarios of every gadget in pods. Those with the same
// parameters share a run of the gadget and a pod. The gadget is run through the
// packages of the plugin, because expectations are about records, not about text.
func testScenarios(t *testing.T, s *suite) {
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig = &s.Kubeconfig
	relay, err := access.Open(access.Options{Flags: flags, Namespace: installed})
	require.NoError(t, err)
	conn, err := relay.Connect(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	catalog, err := conn.Catalog(t.Context())
	require.NoError(t, err)
	namespace := s.namespace(t)
	t.Run("all", func(t *testing.T) { runAll(t, s, conn, catalog, namespace) })
}

// runAll returns before the tests that it starts have ended.
func runAll(t *testing.T, s *suite, conn *client.Conn, catalog []gadget.Spec, namespace string) {
	for _, spec := range catalog {
		all, err := scenario.Load(gadgets.Scenarios(), spec.Name)
		require.NoError(t, err)
		// These nodes are parts of a machine.
		all = slices.DeleteFunc(all, func(s scenario.Scenario) bool { return s.Machine })
		for i, group := range byParams(all) {
			pod := fmt.Sprintf("%s-%d", strings.ReplaceAll(spec.Name, "_", "-"), i)
			t.Run(pod, func(t *testing.T) {
				t.Parallel()
				runScenarios(t, s, conn, &spec, namespace, pod, s.Nodes[i%nodes].Name, group)
			})
		}
	}
}

// byParams puts scenarios together that one run of the gadget can serve.
func byParams(all []scenario.Scenario) [][]scenario.Scenario {
	var groups [][]scenario.Scenario
	for _, s := range all {
		i := slices.IndexFunc(groups, func(g []scenario.Scenario) bool { return maps.Equal(g[0].Params, s.Params) })
		if i < 0 {
			groups = append(groups, nil)
			i = len(groups) - 1
		}
		groups[i] = append(groups[i], s)
	}
	return groups
}

// runScenarios runs the gadget for one pod on one node while the pod runs the scripts.
func runScenarios(t *testing.T, s *suite, conn *client.Conn, spec *gadget.Spec, namespace, pod, node string, group []scenario.Scenario) {
	start := &wire.Start{
		Gadget: spec.Name, Params: group[0].Params, Nodes: []string{node},
		Selector: &wire.Selector{Namespaces: []string{namespace}, Pods: []string{pod}},
	}
	switch spec.Source.Kind {
	case gadget.Table:
		start.Interval = int64(time.Hour) // only the end reads the table
	case gadget.Snapshot:
		start.Interval = int64(100 * time.Millisecond)
	}
	run, err := conn.Run(t.Context(), start)
	require.NoError(t, err)
	r := record(t, run)
	pids := s.runScripts(t, namespace, pod, node, group)
	run.Stop()
	schema, records := r.result()
	for i, sc := range group {
		t.Run(strings.ReplaceAll(sc.Name, " ", "_"), func(t *testing.T) {
			values := map[string]string{"DIR": scriptDir(i), "TOOL": "/bin/tool", "PID": strconv.Itoa(pids[i])}
			require.NoError(t, sc.Check(schema, records, values), "%d records", len(records))
		})
	}
}

// recording is what comes of a run.
type recording struct {
	t       *testing.T
	run     *client.Run
	schema  *event.Schema
	records [][]byte
	done    chan error
}

// record returns when the gadget is attached.
func record(t *testing.T, run *client.Run) *recording {
	t.Helper()
	r := &recording{t: t, run: run, done: make(chan error, 1)}
	attached := make(chan struct{})
	go func() { r.done <- r.read(attached) }()
	select {
	case <-attached:
	case err := <-r.done:
		t.Fatalf("the run has ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the gadget isn't attached")
	}
	return r
}

func (r *recording) read(attached chan<- struct{}) error {
	for {
		message, err := r.run.Next()
		if err != nil {
			return err
		}
		switch m := message.GetResponse().(type) {
		case *wire.RunResponse_Header:
			r.schema = event.NewSchema(r.run.Node(message.GetNode()).Spec.Source, event.Options{Arch: m.Header.GetNode().GetArch()})
			close(attached)
		case *wire.RunResponse_Batch:
			for _, record := range m.Batch.All() {
				r.records = append(r.records, record)
			}
		case *wire.RunResponse_Gone:
			return fmt.Errorf("%s", m.Gone.GetReason())
		case *wire.RunResponse_End:
			return nil
		}
	}
}

// result returns what was recorded once the run has ended, without loss.
func (r *recording) result() (*event.Schema, [][]byte) {
	r.t.Helper()
	select {
	case err := <-r.done:
		require.NoError(r.t, err)
	case <-time.After(patience):
		r.t.Fatal("the run doesn't end")
	}
	require.Zero(r.t, r.run.Counts().Lost())
	return r.schema, r.records
}

func scriptDir(i int) string { return fmt.Sprintf("/tmp/%d", i) }

var scriptPID = regexp.MustCompile(`(?m)^script \d+ is process (\d+)$`)

// runScripts runs a pod that runs the scripts one after the other, and returns the
// process id of each one's shell. The pod sees the node's process ids, because those are
// what gadgets show.
func (s *suite) runScripts(t *testing.T, namespace, name, node string, group []scenario.Scenario) []int {
	t.Helper()
	scripts := map[string]string{}
	var all strings.Builder
	for i, sc := range group {
		values := map[string]string{"DIR": scriptDir(i), "TOOL": "/bin/tool"}
		scripts[fmt.Sprint(i)] = scenario.Expand(sc.Script, values)
		fmt.Fprintf(&all, "mkdir %s\n/bin/sh -c 'echo script %d is process $$; exec /bin/sh -e /scripts/%d'\n", scriptDir(i), i, i)
	}
	// Not in the pod's command, where Kubernetes makes one $ of two.
	scripts["all"] = all.String()
	_, err := s.Client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: scripts,
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	pod := workload(name, node, ". /scripts/all")
	pod.Spec.HostPID = true
	pod.Spec.Volumes = []corev1.Volume{{Name: "scripts", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
	}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scripts", MountPath: "/scripts"}}
	s.start(t, namespace, pod)
	ended := s.awaitPhase(t, namespace, name, corev1.PodSucceeded, corev1.PodFailed)
	logs, err := s.Client.CoreV1().Pods(namespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	require.Equal(t, corev1.PodSucceeded, ended.Status.Phase, string(logs))
	var pids []int
	for _, match := range scriptPID.FindAllSubmatch(logs, -1) {
		pids = append(pids, toInt(t, string(match[1])))
	}
	require.Len(t, pids, len(group), string(logs))
	return pids
}
