// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/test/e2e/cluster"
)

// filesDir is where sessions write files on the nodes, a directory that goes with them.
const filesDir = "/run/nodegadget-sessions"

// receiver takes OpenTelemetry logs.
type receiver struct {
	collogspb.UnimplementedLogsServiceServer
	mu sync.Mutex
	// marks are what was executed, by pod; nodes are the resources' nodes.
	marks map[string][]string
	nodes map[string]bool
}

// Export is part of collogspb.LogsServiceServer.
func (r *receiver) Export(_ context.Context, request *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range request.GetResourceLogs() {
		r.nodes[text(resource.GetResource().GetAttributes(), "k8s.node.name")] = true
		for _, scope := range resource.GetScopeLogs() {
			for _, record := range scope.GetLogRecords() {
				pod := text(record.GetAttributes(), "k8s.pod.name")
				r.marks[pod] = append(r.marks[pod], fmt.Sprint(record.GetAttributes()))
			}
		}
	}
	return &collogspb.ExportLogsServiceResponse{}, nil
}

func text(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// serve lets nodes reach the receiver, and returns where.
func (r *receiver) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(cluster.ControlAddress, "0"))
	require.NoError(t, err)
	server := grpc.NewServer()
	collogspb.RegisterLogsServiceServer(server, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // It ends when it is stopped.
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return listener.Addr().String()
}

// testOutputs has a session with all outputs: what pods do arrives in each of them, and
// one that fails is named without harm to the others.
func testOutputs(t *testing.T, s *suite) {
	namespace := s.namespace(t)
	r := &receiver{marks: map[string][]string{}, nodes: map[string]bool{}}
	sessions := s.tracing(t, "tracesessions", namespace)
	object := map[string]any{}
	require.NoError(t, yaml.Unmarshal([]byte(fmt.Sprintf(`
apiVersion: nodegadget.dev/v1alpha1
kind: TraceSession
metadata: {name: all}
spec:
  gadget: {name: trace_exec}
  params: {comm: "true"}
  output:
    stream: {retain: 1000}
    file: {maxSize: 1Mi, maxFiles: 2}
    otlp: {endpoint: %q, insecure: true}
    metrics: {labels: [comm]}
`, r.serve(t))), &object))
	made, err := sessions.Create(t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	require.NoError(t, err)
	awaitSession(t, sessions, "all", runsEverywhere)
	const total = 20
	for _, n := range s.Nodes {
		script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); /bin/true mark-$i; done; sleep 1000", total)
		s.start(t, namespace, workload("on-"+n.Name, n.Name, script))
	}
	eventually(t, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, n := range s.Nodes {
			if got := len(r.marks["on-"+n.Name]); got != total || !r.nodes[n.Name] {
				return fmt.Errorf("%d of %d logs of %s, nodes %v", got, total, n.Name, r.nodes)
			}
		}
		return nil
	})
	require.Contains(t, r.marks["on-node1"][total-1], fmt.Sprint("mark-", total))
	for _, n := range s.Nodes {
		s.requireFile(t, n, namespace, string(made.GetUID()), total)
		s.requireSeries(t, n, namespace, total)
	}
	// A receiver that isn't there is named in status, and the others go on.
	patch := `{"spec":{"output":{"otlp":{"endpoint":"127.0.0.1:1"}}}}`
	_, err = sessions.Patch(t.Context(), "all", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
	awaitSession(t, sessions, "all", func(status *v1alpha1.SessionStatus) bool { return status.ObservedGeneration == 2 })
	s.start(t, namespace, workload("late", s.Nodes[0].Name, "/bin/true late; sleep 1000"))
	status := awaitSession(t, sessions, "all", func(status *v1alpha1.SessionStatus) bool {
		for _, o := range status.Outputs {
			if o.Name == "otlp" && o.FailingNodes > 0 {
				return status.Events == nodes*total+1
			}
		}
		return false
	}).Status
	t.Logf("%+v", status.Outputs)
	require.Contains(t, s.run(t, "session", "logs", "all", "-n", namespace), "late")
}

// requireFile wants a node's lines of JSON.
func (s *suite) requireFile(t *testing.T, n *cluster.Node, namespace, uid string, total int) {
	t.Helper()
	eventually(t, func() error {
		content, err := n.Exec(t.Context(), "/bin/cat", fmt.Sprintf("%s/%s/all-%s.jsonl", filesDir, namespace, uid))
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(content), "\n")
		if len(lines) != total {
			return fmt.Errorf("%d of %d lines on %s", len(lines), total, n.Name)
		}
		var last line
		if err := json.Unmarshal([]byte(lines[total-1]), &last); err != nil {
			return err
		}
		require.Equal(t, []string{"/bin/true", fmt.Sprint("mark-", total)}, last.Args)
		require.Equal(t, []string{n.Name, "on-" + n.Name, "main"}, []string{last.Node, last.Pod, last.Container})
		return nil
	})
}

// requireSeries wants the node's agent to count the events for Prometheus.
func (s *suite) requireSeries(t *testing.T, n *cluster.Node, namespace string, total int) {
	t.Helper()
	pods, err := s.Client.CoreV1().Pods(installed).List(t.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=agent", FieldSelector: "spec.nodeName=" + n.Name,
	})
	require.NoError(t, err)
	require.Len(t, pods.Items, 1)
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		text, err := s.scrape(ctx, pods.Items[0])
		if err != nil {
			return err
		}
		for _, series := range strings.Split(text, "\n") {
			if strings.HasPrefix(series, "nodegadget_session_events_total{") && strings.Contains(series, fmt.Sprintf("namespace=%q", namespace)) &&
				strings.Contains(series, fmt.Sprintf("pod=%q", "on-"+n.Name)) && strings.HasSuffix(series, fmt.Sprint("} ", total)) {
				return nil
			}
		}
		return fmt.Errorf("no series of %s counts %d", n.Name, total)
	})
}

func (s *suite) scrape(ctx context.Context, pod corev1.Pod) (string, error) {
	text, err := s.Client.CoreV1().RESTClient().Get().Namespace(pod.Namespace).Resource("pods").
		Name(pod.Name + ":9090").SubResource("proxy").Suffix("metrics").DoRaw(ctx)
	return string(text), err
}
