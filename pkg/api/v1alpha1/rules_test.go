// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// document is a session of a kind, with more in its spec.
func document(kind, spec string) string {
	return fmt.Sprintf("{apiVersion: nodegadget.dev/v1alpha1, kind: %s, metadata: {name: x}, spec: {gadget: {name: trace_exec}%s}}", kind, spec)
}

// refused are parts of a spec, and what an API server says to them.
var refused = map[string]struct{ spec, want string }{
	"a time of nothing":         {"ttl: 0s", "spec.ttl: Invalid value: \"0s\": a session's time is more than 0s"},
	"a time that is over":       {"ttl: -1h", "spec.ttl in body should match"},
	"a time of days":            {"ttl: 1d", "spec.ttl in body should match"},
	"a time without a unit":     {`ttl: "60"`, "spec.ttl in body should match"},
	"a time that is a number":   {"ttl: 60", "spec.ttl in body must be of type string"},
	"a time of centuries":       {"ttl: 876000h", "at most 8760h"},
	"a time beyond all times":   {"ttl: 99999999999999h", "spec.ttl"},
	"a short interval":          {"interval: 9ms", "an interval is from 10ms to 24h"},
	"a long interval":           {"interval: 25h", "an interval is from 10ms to 24h"},
	"no buffer":                 {"bufferSize: 0", "a buffer has more than 0 and at most 256Mi"},
	"a negative buffer":         {"bufferSize: -4Ki", "a buffer has more than 0 and at most 256Mi"},
	"a large buffer":            {"bufferSize: 257Mi", "a buffer has more than 0 and at most 256Mi"},
	"a large buffer in bytes":   {"bufferSize: 268435457", "a buffer has more than 0 and at most 256Mi"},
	"a buffer of words":         {"bufferSize: lots", "spec.bufferSize in body should match"},
	"a long filter":             {"filter: '" + strings.Repeat("x", 4097) + "'", "spec.filter: Too long"},
	"many parameters":           {"params: {" + numbered(65, "p%d: x") + "}", "spec.params: Too many"},
	"a long name":               {"params: {" + strings.Repeat("n", 64) + ": x}", "names of parameters have at most 63 characters"},
	"a long value":              {"params: {comm: " + strings.Repeat("n", 4097) + "}", "and values at most 4096"},
	"a value that is no text":   {"params: {failed: true}", "spec.params.failed in body must be of type string"},
	"an empty name of a pod":    {`selector: {podNames: [""]}`, "spec.selector.podNames[0]"},
	"a name of a pod":           {`selector: {podNames: [Web]}`, "spec.selector.podNames[0] in body should match"},
	"a pod twice":               {"selector: {podNames: [a, a]}", "spec.selector.podNames[1]: Duplicate value"},
	"many pods":                 {"selector: {podNames: [" + numbered(65, "p%d") + "]}", "spec.selector.podNames: Too many"},
	"an empty container":        {`selector: {containerNames: [""]}`, "spec.selector.containerNames[0]"},
	"many labels":               {"selector: {podSelector: {matchLabels: {" + numbered(33, "l%d: x") + "}}}", "at most 32 requirements"},
	"an operator":               {"selector: {podSelector: {matchExpressions: [{key: a, operator: Equals, values: [b]}]}}", "operators of a pod selector are In and NotIn"},
	"an operator of nothing":    {"selector: {podSelector: {matchExpressions: [{key: a, operator: In}]}}", "operators of a pod selector are In and NotIn"},
	"an operator of too much":   {"selector: {podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}", "operators of a pod selector are In and NotIn"},
	"nothing retained":          {"output: {stream: {retain: 0}}", "spec.output.stream.retain"},
	"too much retained":         {"output: {stream: {retain: 1000001}}", "spec.output.stream.retain"},
	"too many bytes retained":   {"output: {stream: {retainBytes: 65Mi}}", "a stream retains from 1Ki to 64Mi"},
	"a small file":              {"output: {file: {maxSize: 1Ki}}", "a file has from 64Ki to 1Gi"},
	"a large file":              {"output: {file: {maxSize: 2Gi}}", "a file has from 64Ki to 1Gi"},
	"many files":                {"output: {file: {maxFiles: 101}}", "spec.output.file.maxFiles"},
	"no endpoint":               {"output: {otlp: {}}", "spec.output.otlp.endpoint: Required value"},
	"an endpoint without port":  {"output: {otlp: {endpoint: collector}}", "spec.output.otlp.endpoint in body should match"},
	"an endpoint of HTTP":       {`output: {otlp: {endpoint: "http://collector:4318"}}`, "spec.output.otlp.endpoint in body should match"},
	"an endpoint with a path":   {`output: {otlp: {endpoint: "https://collector:4317/v1"}}`, "spec.output.otlp.endpoint in body should match"},
	"https, but insecure":       {`output: {otlp: {endpoint: "https://collector:4317", insecure: true}}`, "insecure goes neither with"},
	"an authority, but nothing": {`output: {otlp: {endpoint: "collector:4317", insecure: true, caBundle: eA==}}`, "insecure goes neither with"},
	"a label of metrics":        {"output: {metrics: {labels: [Not-A-Column]}}", "spec.output.metrics.labels[0] in body should match"},
	"many labels of metrics":    {"output: {metrics: {labels: [" + numbered(9, "l%d") + "]}}", "spec.output.metrics.labels: Too many"},
	"many series":               {"output: {metrics: {maxSeries: 10001}}", "spec.output.metrics.maxSeries"},
}

// numbered is a list of so many texts.
func numbered(count int, format string) string {
	var all []string
	for i := range count {
		all = append(all, fmt.Sprintf(format, i))
	}
	return strings.Join(all, ", ")
}

// TestRulesRefuse wants both kinds to be told what is wrong.
func TestRulesRefuse(t *testing.T) {
	for kind, judge := range judges(t) {
		for _, name := range slices.Sorted(maps.Keys(refused)) {
			t.Run(kind+"/"+name, func(t *testing.T) {
				object, unknown := judge.read(t, document(kind, ", "+refused[name].spec))
				require.Empty(t, unknown)
				require.Contains(t, judge.errors(t, object, nil), refused[name].want)
			})
		}
	}
	cluster := judges(t)["ClusterTraceSession"]
	for spec, want := range map[string]string{
		"selector: {namespaces: [Shop]}":                        "spec.selector.namespaces[0] in body should match",
		`selector: {namespaces: [""]}`:                          "spec.selector.namespaces[0]",
		"selector: {nodeNames: [a, a]}":                         "spec.selector.nodeNames[1]: Duplicate value",
		"selector: {nodeNames: [" + numbered(257, "n%d") + "]}": "spec.selector.nodeNames: Too many",
		"selector: {host: maybe}":                               "spec.selector.host in body must be of type boolean",
	} {
		object, _ := cluster.read(t, document("ClusterTraceSession", ", "+spec))
		require.Contains(t, cluster.errors(t, object, nil), want, spec)
	}
}

// TestRulesAccept wants what lies just within the rules.
func TestRulesAccept(t *testing.T) {
	for kind, judge := range judges(t) {
		for _, spec := range []string{
			"", ", ttl: 1h30m", ", ttl: 1.5h", ", ttl: 1ms", ", ttl: 8760h", ", interval: 10ms", ", bufferSize: 256Mi", ", bufferSize: 1", ", bufferSize: 1e6",
			", filter: '" + strings.Repeat("x", 4096) + "'", ", params: {" + numbered(64, "p%d: x") + "}", ", suspend: true",
			", selector: {podNames: [web-0.a], containerNames: [web], podSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: Exists}, {key: b, operator: NotIn, values: [c]}]}}",
			", output: {stream: {}, file: {}, metrics: {}, otlp: {endpoint: \"[::1]:4317\"}}", ", output: {stream: {retain: 1000000, retainBytes: 67108864}}",
			`, output: {otlp: {endpoint: "https://collector.example.com:4317", caBundle: eA==}}`, ", output: {file: {maxSize: 1Gi, maxFiles: 100}}",
			", output: {metrics: {labels: [comm, target.pid], maxSeries: 10000}}",
		} {
			object, unknown := judge.read(t, document(kind, spec))
			require.Empty(t, unknown, spec)
			require.Empty(t, judge.errors(t, object, nil), "%s: %s", kind, spec)
		}
	}
}

// TestGadgetIsFixed wants everything to be open to change but the gadget.
func TestGadgetIsFixed(t *testing.T) {
	for kind, judge := range judges(t) {
		old, _ := judge.read(t, document(kind, ""))
		object, _ := judge.read(t, strings.Replace(document(kind, ""), "trace_exec", "trace_open", 1))
		require.Contains(t, judge.errors(t, object, old), "the gadget of a session can't be changed: make another session")
		object, _ = judge.read(t, document(kind, ", ttl: 1h, params: {failed: \"true\"}, filter: uid == 0, suspend: true, output: {file: {}}, selector: {podNames: [a]}"))
		require.Empty(t, judge.errors(t, object, old))
	}
}

// TestNamespacedSeesNothingElse wants a TraceSession to have no way to name what is
// outside of its namespace: an API server drops such fields, or refuses them.
func TestNamespacedSeesNothingElse(t *testing.T) {
	const outside = ", selector: {namespaces: [other], nodeNames: [n], host: true}"
	all := judges(t)
	_, unknown := all["TraceSession"].read(t, document("TraceSession", outside))
	require.ElementsMatch(t, []string{"spec.selector.namespaces", "spec.selector.nodeNames", "spec.selector.host"}, unknown)
	_, unknown = all["ClusterTraceSession"].read(t, document("ClusterTraceSession", outside))
	require.Empty(t, unknown)
}

// TestScheme wants clients to read and write every kind.
func TestScheme(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	for _, kind := range []string{"TraceSession", "TraceSessionList", "ClusterTraceSession", "ClusterTraceSessionList"} {
		require.True(t, scheme.Recognizes(v1alpha1.GroupVersion.WithKind(kind)), kind)
	}
	require.Equal(t, "tracesessions.nodegadget.dev", v1alpha1.Resource("tracesessions").String())
}
