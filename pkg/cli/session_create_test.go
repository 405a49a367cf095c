// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/pkg/gadget"
)

// TestDetach: the flags of a run become an object.
func TestDetach(t *testing.T) {
	for _, test := range []struct {
		args, resource, namespace, name, spec string
	}{
		{"--name carts-exec", "tracesessions", "shop", "carts-exec", `{gadget: {name: trace_exec}}`},
		{"", "tracesessions", "shop", "trace-exec-x7k2p", `{gadget: {name: trace_exec}}`},
		{
			"--name x -n bank --ttl 1h --retain 500 --failed --filter uid==0 --buffer-size 1Mi -p a,b -c web -l app=cart,tier!=cache", "tracesessions", "bank", "x",
			`{gadget: {name: trace_exec}, params: {failed: "true"}, filter: uid==0, bufferSize: 1Mi, ttl: 1h0m0s, output: {stream: {retain: 500}}, selector: {
				podSelector: {matchLabels: {app: cart}, matchExpressions: [{key: tier, operator: NotIn, values: [cache]}]}, podNames: [a, b], containerNames: [web]
			}}`,
		},
		{"--name x -A", "clustertracesessions", "", "x", `{gadget: {name: trace_exec}}`},
		{"--name x -n a,b", "clustertracesessions", "", "x", `{gadget: {name: trace_exec}, selector: {namespaces: [a, b]}}`},
		{"--name x --host", "clustertracesessions", "", "x", `{gadget: {name: trace_exec}, selector: {namespaces: [shop], host: true}}`},
		{"--name x --node node1", "clustertracesessions", "", "x", `{gadget: {name: trace_exec}, selector: {namespaces: [shop], nodeNames: [node1]}}`},
	} {
		t.Run(test.args, func(t *testing.T) {
			s, program := sessions(t, &fakeRelay{})
			r := program(append([]string{"trace", "exec", "--detach"}, strings.Fields(test.args)...)...)
			require.Zero(t, r.status, r.err)
			singular, of := "tracesession", "-n "+test.namespace
			if test.namespace == "" {
				singular, of = "clustertracesession", "--cluster"
			}
			require.Equal(t, singular+".nodegadget.dev/"+test.name+" created\n", r.out)
			require.Equal(t, "read it with: kubectl gadget session logs -f "+test.name+" "+of+"\n", r.err)
			object := s.Object(test.resource, test.namespace, test.name)
			require.NotNil(t, object)
			want := map[string]any{}
			require.NoError(t, yaml.Unmarshal([]byte(test.spec), &want))
			if want["selector"] == nil {
				want["selector"] = map[string]any{}
			}
			got, _ := object["spec"].(map[string]any)
			if got["selector"] == nil {
				got["selector"] = map[string]any{}
			}
			require.Equal(t, normal(t, want), normal(t, got))
			require.Nil(t, object["status"])
		})
	}
}

// normal is a value with the types that YAML has.
func normal(t *testing.T, value any) any {
	t.Helper()
	text, err := yaml.Marshal(value)
	require.NoError(t, err)
	var same any
	require.NoError(t, yaml.Unmarshal(text, &same))
	return same
}

func TestDryRunPrintsWhatWouldBeApplied(t *testing.T) {
	s, program := sessions(t, &fakeRelay{})
	r := program(strings.Fields("trace exec --detach --name carts -l app=cart --ttl 90m --dry-run=client -o yaml")...)
	require.Zero(t, r.status, r.err)
	golden(t, "session-dry-run.yaml", r.out)
	require.Empty(t, r.err)
	r = program(strings.Fields("session create syscalls --gadget top_syscall --interval 10s --host --dry-run -o json")...)
	require.Zero(t, r.status, r.err)
	golden(t, "session-dry-run.json", r.out)
	r = program(strings.Fields("trace exec --detach --dry-run")...)
	require.Equal(t, "tracesession.nodegadget.dev/trace-exec- created (dry run)\n", r.out)
	for _, request := range s.Requests() {
		require.NotContains(t, request.URL.Path, "nodegadget.dev")
	}
	r = program(strings.Fields("trace exec --detach --name x --dry-run=server")...)
	require.Zero(t, r.status, r.err)
	require.Equal(t, "tracesession.nodegadget.dev/x created (server dry run)\n", r.out)
	require.Empty(t, r.err)
	require.Nil(t, s.Object("tracesessions", "shop", "x"))
	r = program(strings.Fields("trace exec --detach --name x -o name")...)
	require.Equal(t, "tracesession.nodegadget.dev/x\n", r.out)
	r = program(strings.Fields("trace exec --detach --name y -o none")...)
	require.Zero(t, r.status, r.err)
	require.Empty(t, r.out)
}

func TestSessionCreate(t *testing.T) {
	f := &fakeRelay{specs: []*gadget.Spec{moonSpec}}
	s, program := sessions(t, f)
	r := program(strings.Fields("session create x --gadget trace_exec --param failed=true --param comm=sh -n bank")...)
	require.Zero(t, r.status, r.err)
	spec := s.Object("tracesessions", "bank", "x")["spec"].(map[string]any)
	require.Equal(t, map[string]any{"failed": "true", "comm": "sh"}, spec["params"])
	r = program("session", "create", "all", "--gadget", "trace exec", "--cluster")
	require.Zero(t, r.status, r.err)
	require.NotNil(t, s.Object("clustertracesessions", "", "all"))
	r = program(strings.Fields("session create sun --gadget watch_sun")...)
	require.Equal(t, 2, r.status)
	require.Contains(t, r.err, `unknown gadget "watch sun"`)

	r = program(strings.Fields("session create moon --gadget watch_moon --param year=70000")...)
	require.Equal(t, 2, r.status, "gadgets that only the cluster knows are asked for")
	require.Contains(t, r.err, `spec.params[year]: is "70000", want a number from 0 to 65535`)
	s.Refuse("/nodegadget-authority", 404, "NotFound", "there is none")
	r = program(strings.Fields("session create sun --gadget watch_sun --interval 1s")...)
	require.Zero(t, r.status, "who can't ask leaves it to the controller: %s", r.err)
	require.NotNil(t, s.Object("tracesessions", "shop", "sun"))
}
