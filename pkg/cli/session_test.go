// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/cluster/clustertest"
)

// cartsSession is a session that has all that a description shows.
const cartsSession = `{
	"metadata": {
		"namespace": "shop", "name": "carts-exec", "uid": "u1", "generation": 3, "creationTimestamp": "2026-11-05T09:00:00Z",
		"managedFields": [{"manager": "kubectl"}]
	},
	"spec": {
		"gadget": {"name": "trace_exec"}, "params": {"failed": "true", "comm": "sh"}, "filter": "uid == 0", "bufferSize": "4Mi", "ttl": "1h",
		"selector": {"podSelector": {"matchLabels": {"app": "cart"}}, "podNames": ["cart-1"], "containerNames": ["web"]},
		"output": {"stream": {"retain": 5000, "retainBytes": "8Mi"}, "file": {}, "otlp": {"endpoint": "collector:4317"}, "metrics": {"labels": ["comm"]}},
		"suspend": true
	},
	"status": {
		"phase": "Degraded", "observedGeneration": 2, "nodes": {"summary": "2/3", "desired": 3, "running": 2, "failed": 1}, "events": 12345, "lost": 7,
		"startTime": "2026-11-05T09:00:02Z", "expiresAt": "2026-11-05T10:00:00Z", "gaps": 2,
		"lastGap": {"node": "node1", "from": "2026-11-05T09:10:00Z", "to": "2026-11-05T09:10:04Z"},
		"conditions": [
			{"type": "Accepted", "status": "True", "reason": "Valid", "lastTransitionTime": "2026-11-05T09:00:01Z", "message": "the gadget takes it"},
			{"type": "Degraded", "status": "True", "reason": "NodesFailed", "lastTransitionTime": "2026-11-05T09:05:00Z", "message": "1 node can't run it\u001b[2J"}
		],
		"failures": [{"node": "node3", "reason": "NoTypes", "message": "no BTF for kernel 4.19"}],
		"outputs": [{"name": "otlp", "written": 12000, "dropped": 345, "failingNodes": 1, "error": "connection refused"}]
	}
}`

// sessionNamed is a session that is an hour and a half old: then ages are shown in minutes.
func sessionNamed(namespace, name, rest string) string {
	return fmt.Sprintf(`{"metadata": {"namespace": %q, "name": %q, "creationTimestamp": %q}%s}`,
		namespace, name, time.Now().Add(-90*time.Minute).UTC().Format(time.RFC3339), rest)
}

// sessions is a cluster with some, and a function that calls the program for it.
func sessions(t *testing.T, relay *fakeRelay) (*clustertest.Server, func(args ...string) result) {
	t.Helper()
	s := clustertest.New(t, relay)
	s.Put("tracesessions", sessionNamed("shop", "opens", `, "spec": {"gadget": {"name": "trace_open"}}`))
	s.Put("tracesessions", sessionNamed("bank", "vault", `, "spec": {"gadget": {"name": "trace_exec"}, "output": {"metrics": {}}},
		"status": {"phase": "Running", "nodes": {"desired": 2, "running": 2}, "events": 5}`))
	s.Put("clustertracesessions", sessionNamed("", "ports", `, "spec": {"gadget": {"name": "trace_bind"}, "selector": {"host": true}}`))
	return s, func(args ...string) result {
		return call(t, append(args, "--kubeconfig", s.Kubeconfig)...)
	}
}

func TestSessionList(t *testing.T) {
	s, session := sessions(t, &fakeRelay{})
	broken := sessionNamed("shop", "odd", `, "spec": {"gadget": {"name": "trace_exec\u001b[2J"}, "bufferSize": "lots"}`)
	s.Put("tracesessions", broken)
	s.Put("tracesessions", strings.Replace(strings.Replace(cartsSession, "2026-11-05T09:00:00Z", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), 1),
		"2026-11-05T10:00:00Z", "2020-01-01T00:00:00Z", 1))
	for name, args := range map[string]string{
		"session-list.txt": "session list", "session-list-all.txt": "session list -A", "session-list-wide.txt": "session list -o wide -n shop",
		"session-list-cluster.txt": "session list --cluster", "session-list-name.txt": "session list -A -o name",
	} {
		r := session(strings.Fields(args)...)
		require.Zero(t, r.status, r.err)
		require.Empty(t, r.err)
		golden(t, name, r.out)
	}
	r := session("session", "list", "-n", "empty")
	require.Zero(t, r.status)
	require.Empty(t, r.out)
	require.Equal(t, "there are no tracesessions in namespace empty\n", r.err)
	s.Refuse("/clustertracesessions", http.StatusForbidden, metav1.StatusReasonForbidden, `clustertracesessions.nodegadget.dev is forbidden: User "jane" cannot list resource`)
	r = session("session", "list", "-A")
	require.Zero(t, r.status)
	require.Contains(t, r.out, "vault")
	require.Contains(t, r.err, "you may not list clustertracesessions in this cluster: ask for a binding to the ClusterRole nodegadget-viewer")
}

// TestSessionDocuments are what the API server has, safe to show.
func TestSessionDocuments(t *testing.T) {
	s, session := sessions(t, &fakeRelay{})
	s.Put("tracesessions", `{"metadata": {"namespace": "docs", "name": "x", "managedFields": [{"manager": "kubectl"}]},
		"spec": {"gadget": {"name": "trace_exec"}, "filter": "comm == \"sh\" &&\n  uid == 0"}}`)
	r := session("session", "list", "-n", "docs", "-o", "yaml")
	require.Zero(t, r.status, r.err)
	golden(t, "session-list.yaml", r.out)
	r = session("session", "list", "-n", "docs", "-o", "json")
	require.Zero(t, r.status, r.err)
	var list struct{ Items []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(r.out), &list))
	require.Equal(t, "comm == \"sh\" &&\n  uid == 0", list.Items[0]["spec"].(map[string]any)["filter"])
	s.Put("tracesessions", `{"metadata": {"namespace": "docs", "name": "x"}, "spec": {"gadget": {"name": "trace_exec"}, "filter": "\u202e\u009b2J"}}`)
	for _, output := range []string{"json", "yaml"} {
		r = session("session", "list", "-n", "docs", "-o", output)
		require.Zero(t, r.status, r.err)
		require.NotContains(t, r.out, "\u202e")
		require.NotContains(t, r.out, "\u009b")
		require.Contains(t, r.out, `u202e`)
	}
}

func TestSessionDescribe(t *testing.T) {
	s, session := sessions(t, &fakeRelay{})
	s.Put("tracesessions", cartsSession)
	r := session("session", "describe", "carts-exec")
	require.Zero(t, r.status, r.err)
	golden(t, "session-describe.txt", r.out)
	s.Put("clustertracesessions", `{"metadata": {"name": "ports", "generation": 1, "deletionTimestamp": "2026-11-05T11:00:00Z"}, "spec": {
		"gadget": {"name": "top_syscall"}, "interval": "10s", "selector": {"host": true, "namespaces": ["a", "b"]}, "ttl": "ever"
	}, "status": {"observedGeneration": 1}}`)
	r = session("session", "describe", "ports", "--cluster")
	require.Zero(t, r.status, r.err)
	golden(t, "session-describe-broken.txt", r.out)
	s.Put("clustertracesessions", `{"metadata": {"name": "nodes", "generation": 1}, "spec": {
		"gadget": {"name": "top_syscall"}, "interval": "10s", "selector": {"host": true, "namespaces": ["a", "b"], "nodeNames": ["n"]}
	}, "status": {"phase": "Running", "observedGeneration": 1, "nodes": {"desired": 1, "running": 1}}}`)
	r = session("session", "describe", "nodes", "ports", "--cluster")
	require.Zero(t, r.status, r.err)
	golden(t, "session-describe-cluster.txt", r.out)
}

func TestSessionSuspendAndResume(t *testing.T) {
	s, session := sessions(t, &fakeRelay{})
	suspended := func() any { return s.Object("tracesessions", "shop", "opens")["spec"].(map[string]any)["suspend"] }
	r := session("session", "suspend", "opens")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "tracesession.nodegadget.dev/opens suspended\n", r.out)
	require.Equal(t, true, suspended())
	r = session("session", "resume", "opens", "none")
	require.Equal(t, 1, r.status)
	require.Equal(t, "tracesession.nodegadget.dev/opens resumed\n", r.out)
	require.Equal(t, `kubectl-gadget: there is no tracesession "none" in namespace shop: see kubectl gadget session list`+"\n", r.err)
	require.Equal(t, false, suspended())
	r = session("session", "suspend", "ports", "--cluster")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "clustertracesession.nodegadget.dev/ports suspended\n", r.out)
}

func TestSessionDelete(t *testing.T) {
	s, session := sessions(t, &fakeRelay{})
	r := session("session", "delete", "opens")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "tracesession.nodegadget.dev/opens deleted\n", r.out)
	require.Nil(t, s.Object("tracesessions", "shop", "opens"))

	held := `{"metadata": {"namespace": "shop", "name": "held", "finalizers": ["nodegadget.dev/session"]}, "spec": {}}`
	s.Put("tracesessions", held)
	r = session("session", "delete", "held", "--timeout", "300ms")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.err, "held is being deleted, but still there: it waits for the controller, see kubectl gadget session describe held -n shop")
	r = session("session", "delete", "held", "--wait=false")
	require.Zero(t, r.status, r.err)
	time.AfterFunc(300*time.Millisecond, func() { s.Remove("tracesessions", "shop", "held") })
	r = session("session", "delete", "held")
	require.Zero(t, r.status, r.err)

	s.Put("tracesessions", held)
	time.AfterFunc(300*time.Millisecond, func() {
		s.Remove("tracesessions", "shop", "held")
		s.Put("tracesessions", held)
	})
	r = session("session", "delete", "held")
	require.Zero(t, r.status, "another one of the name isn't waited for: %s", r.err)
}

func TestSessionMistakes(t *testing.T) {
	s, session := sessions(t, &fakeRelay{})
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"session lst", 2, `unknown command "lst" for kubectl-gadget session, did you mean: list`},
		{"session list stray", 2, "session list takes no arguments"},
		{"session list -o xml", 2, `--output is "xml", want columns, wide, name, json or yaml`},
		{"session list --cluster -n shop", 2, "--cluster is for sessions that are in no namespace"},
		{"session describe", 2, "say which session, as in: kubectl-gadget session describe NAME"},
		{"session describe none", 1, `there is no tracesession "none" in namespace shop: see kubectl gadget session list`},
		{"session logs a b", 2, "session logs takes one session"},
		{"session logs opens --since 1m --since-time 2026-11-05T10:00:00Z", 2, "say the same"},
		{"session logs opens --since-time yesterday", 2, `--since-time is "yesterday", want a time such as`},
		{"session logs opens --tail -2", 2, "can't be negative"},
		{"session logs opens -o xml", 2, "--output: unknown output mode"},
		{"session logs opens --fields nope", 2, `--fields: unknown field "nope", known are: `},
		{"session logs opens --filter nope==1", 2, `--filter: unknown field "nope", known are: `},
		{"session logs vault -n bank", 1, "session tracesession.nodegadget.dev/vault keeps nothing that could be read: its spec.output has no stream"},
		{"session delete opens --timeout 0s", 2, "--timeout is 0s, want more than nothing"},
		{"session create", 2, "say which session"},
		{"session create x", 2, "say which gadget, as in: --gadget trace_exec"},
		{"session create x --gadget trace_exec --param nope=1", 2, "spec.params[nope]: gadget trace_exec has no such parameter"},
		{"session create x --gadget trace_exec -o wide", 2, `--output is "wide"`},
		{"session create x --gadget trace_exec -l a>b", 2, "--selector: "},
		{"session create x --gadget snapshot_process", 2, "snapshot process takes a single snapshot: a session needs --interval"},
		{"session create opens --gadget trace_exec", 1, `there is a tracesession "opens" in namespace shop already: choose another name`},
		{"trace exec --detach --fields comm", 2, "--fields has no meaning for a session that goes on by itself: give it to kubectl gadget session logs"},
		{"trace exec --detach --timeout 1h", 2, "--timeout has no meaning for a session that goes on by itself: see --ttl"},
		{"trace exec --detach --local", 2, "--local has no meaning for a session that goes on by itself: it is made in a cluster"},
		{"trace exec --detach --ttl -1h", 2, "--ttl and --retain can't be negative"},
		{"trace exec --detach --dry-run=maybe", 2, `--dry-run is "maybe", want none, client or server`},
		{"trace exec --ttl 1h", 2, "--ttl is for a session: give --detach as well"},
		{"trace exec --detach --filter nope==1", 2, `--filter: unknown field "nope"`},
	} {
		t.Run(test.args, func(t *testing.T) {
			r := session(strings.Fields(test.args)...)
			require.Equal(t, test.status, r.status, r.err)
			require.Contains(t, r.err, test.want)
			require.Empty(t, r.out)
			assertNoTrace(t, r)
		})
	}
	s.NoDefinitions = true
	r := session("session", "list")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.err, "this cluster doesn't know trace sessions: install nodegadget, or upgrade it, with `kubectl gadget deploy`")
	s.NoDefinitions = false
	s.Refuse("/tracesessions", http.StatusForbidden, metav1.StatusReasonForbidden, `tracesessions.nodegadget.dev is forbidden: User "jane" cannot create resource "tracesessions"`)
	r = session("trace", "exec", "--detach")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.err, "you may not create tracesessions in namespace shop: ask for a binding to the ClusterRole nodegadget-tracer")
	s.Refuse("/tracesessions", http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, `TraceSession.nodegadget.dev "x" is invalid: spec.ttl: at most 8760h`)
	r = session("trace", "exec", "--detach")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.err, "spec.ttl: at most 8760h")
	s.Refuse("/tracesessions", http.StatusForbidden, metav1.StatusReasonForbidden, `tracesessions.nodegadget.dev "x" is forbidden: ValidatingAdmissionPolicy denied request: no`)
	r = session("trace", "exec", "--detach")
	require.Equal(t, 2, r.status)
	require.NotContains(t, r.err, "ask for a binding")
	s.Refuse("/tracesessions", http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcd \x1b[2J is down")
	r = session("session", "list")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.err, `asking the API server: etcd \x1b[2J is down`)
}

func TestSessionCompletion(t *testing.T) {
	s, _ := sessions(t, &fakeRelay{})
	for want, args := range map[string]string{
		"opens trace open, Pending :4":  "session describe --kubeconfig KUBECONFIG",
		"vault trace exec, Running :4":  "session logs --kubeconfig KUBECONFIG -n bank",
		"ports trace bind, Pending :4":  "session delete --kubeconfig KUBECONFIG --cluster",
		":4":                            "session suspend --kubeconfig KUBECONFIG opens",
		"trace_exec trace_open :4":      "session create --gadget",
		"bank shop :4":                  "session list --kubeconfig KUBECONFIG -n",
		"opens trace open, Pending :4 ": "session resume --kubeconfig KUBECONFIG -n shop",
	} {
		s.Namespaces = []metav1.ObjectMeta{{Name: "shop"}, {Name: "bank"}}
		words := append([]string{"__complete"}, strings.Fields(strings.ReplaceAll(args, "KUBECONFIG", s.Kubeconfig))...)
		r := call(t, append(words, "")...)
		require.Zero(t, r.status, r.err)
		got := strings.Join(strings.Fields(r.out), " ")
		if strings.HasPrefix(want, "trace_exec") {
			require.Contains(t, got, "trace_exec")
			continue
		}
		require.Equal(t, strings.TrimSpace(want), got, args)
	}
}
