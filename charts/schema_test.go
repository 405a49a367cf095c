// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	yamlv3 "go.yaml.in/yaml/v3"

	"nodegadget.dev/charts"
)

// TestSchemaRefuses wants wrong values to be refused with words that help.
func TestSchemaRefuses(t *testing.T) {
	c := load(t)
	for name, test := range map[string]struct{ values, want string }{
		"a value that isn't there":  {"agents: {}", `at '': additional properties 'agents' not allowed`},
		"a misspelt value":          {"agent: {hostPid: false}", `at '/agent': additional properties 'hostPid' not allowed`},
		"text for a number":         {"controller: {replicas: two}", `at '/controller/replicas': got string, want integer`},
		"privileged":                {"agent: {privileged: true}", `at '/agent': additional properties 'privileged' not allowed`},
		"a capability too many":     {"agent: {capabilities: [SYS_ADMIN]}", `at '/agent/capabilities/0': value must be one of 'BPF', 'PERFMON'`},
		"a capability twice":        {"agent: {capabilities: [BPF, BPF]}", `at '/agent/capabilities': items at 0 and 1 are equal`},
		"a profile without a path":  {"agent: {seccompProfile: {type: Localhost}}", `at '/agent/seccompProfile/localhostProfile': minLength`},
		"a path without a profile":  {"agent: {seccompProfile: {localhostProfile: x.json}}", `at '/agent/seccompProfile/localhostProfile': maxLength`},
		"AppArmor":                  {"agent: {appArmorProfile: none}", `at '/agent/appArmorProfile': value must be one of '', 'RuntimeDefault', 'Unconfined'`},
		"a tag in the repository":   {"image: {repository: example.com/nodegadget:1.2}", `at '/image/repository': 'example.com/nodegadget:1.2' does not match pattern`},
		"a digest":                  {"image: {digest: latest}", `at '/image/digest': 'latest' does not match pattern`},
		"a tag that is a number":    {"image: {tag: 1.2}", `at '/image/tag': got number, want string`},
		"a pool without a name":     {"agent: {pools: [{nodeSelector: {a: b}}]}", `at '/agent/pools/0': missing property 'name'`},
		"a pool of all nodes":       {"agent: {pools: [{name: all, nodeSelector: {}}]}", `at '/agent/pools/0/nodeSelector'`},
		"a pool without a selector": {"agent: {pools: [{name: all}]}", `at '/agent/pools/0': missing property 'nodeSelector'`},
		"the pool of the rest":      {"agent: {pools: [{name: default, nodeSelector: {a: b}}]}", `at '/agent/pools/0/name'`},
		"a pool's name":             {"agent: {pools: [{name: My Pool, nodeSelector: {a: b}}]}", `at '/agent/pools/0/name': 'My Pool' does not match pattern`},
		"a label that is a number":  {"agent: {pools: [{name: x, nodeSelector: {kernel: 5.10}}]}", `at '/agent/pools/0/nodeSelector/kernel': got number, want string`},
		"a pool in a pool":          {"agent: {pools: [{name: x, nodeSelector: {a: b}, pools: []}]}", `at '/agent/pools/0': additional properties 'pools' not allowed`},
		"a socket beside a root":    {"agent: {runtime: {socket: /run/../etc/shadow}}", `at '/agent/runtime/socket'`},
		"a socket as a URL":         {"agent: {runtime: {socket: \"unix:///run/x/y.sock\"}}", `at '/agent/runtime/socket': 'unix:///run/x/y.sock' does not match pattern`},
		"a BTF service":             {"agent: {btf: {service: {url: btf.example.com}}}", `at '/agent/btf/service/url': 'btf.example.com' does not match pattern`},
		"a relative path of BTF":    {"agent: {btf: {source: vmlinux.btf}}", `at '/agent/btf/source': 'vmlinux.btf' does not match pattern`},
		"a buffer too large":        {"agent: {bufferSize: 1073741824}", `at '/agent/bufferSize': maximum: got 1.073741824`},
		"an address without a port": {"controller: {address: 10.0.0.1}", `at '/controller/address': '10.0.0.1' does not match pattern`},
		"a subject of no kind":      {"rbac: {connect: [{name: alice}]}", `at '/rbac/connect/0': missing property 'kind'`},
		"a peer that is a name":     {"networkPolicy: {metricsFrom: [prometheus]}", `at '/networkPolicy/metricsFrom/0': got string, want object`},
		"everybody as a peer":       {"networkPolicy: {metricsFrom: [{}]}", `at '/networkPolicy/metricsFrom/0': minProperties`},
		"definitions as a word":     {"crds: {keep: always}", `at '/crds/keep': got string, want boolean`},
		"a policy's name":           {"admission: {othergadgets: true}", `at '/admission': additional properties 'othergadgets' not allowed`},
		"a quantity":                {"agent: {resources: {limits: {memory: lots}}}", `at '/agent/resources/limits/memory': 'lots' does not match pattern`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := values(t, c, kubeVersion, test.values)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestSchemaIsComplete wants every value to be in the schema, and the other way round.
func TestSchemaIsComplete(t *testing.T) {
	text, err := fs.ReadFile(charts.Nodegadget(), "values.schema.json")
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(text, &schema))
	var paths []string
	listed(schema, schema, "", &paths)
	// Of a chart that this one is part of.
	paths = slices.DeleteFunc(paths, func(path string) bool { return path == "global" })
	slices.Sort(paths)

	require.Equal(t, paths, slices.Sorted(maps.Keys(documentation(t))))
}

// isStructure says whether a value is a structure of Kubernetes, of which the chart
// knows no parts.
func isStructure(path string) bool {
	name := path[strings.LastIndex(path, ".")+1:]
	return slices.Contains([]string{"resources", "rollingUpdate", "nodeSelector"}, name)
}

// listed lists the values that a schema knows.
func listed(root, schema map[string]any, path string, into *[]string) {
	if to, ok := schema["$ref"].(string); ok {
		definitions := root["definitions"].(map[string]any)
		schema = definitions[strings.TrimPrefix(to, "#/definitions/")].(map[string]any)
	}
	properties, _ := schema["properties"].(map[string]any)
	if len(properties) == 0 || isStructure(path) {
		*into = append(*into, path)
		return
	}
	for name, property := range properties {
		listed(root, property.(map[string]any), strings.TrimPrefix(path+"."+name, "."), into)
	}
}

// TestValuesAreExplained wants each value to have a comment of its own.
func TestValuesAreExplained(t *testing.T) {
	for path, comment := range documentation(t) {
		require.NotEmpty(t, comment, path)
	}
}

// documentation has the comment of each value in values.yaml.
func documentation(t *testing.T) map[string]string {
	t.Helper()
	text, err := fs.ReadFile(charts.Nodegadget(), "values.yaml")
	require.NoError(t, err)
	var document yamlv3.Node
	require.NoError(t, yamlv3.Unmarshal(text, &document))
	comments := make(map[string]string)
	var walk func(node *yamlv3.Node, path, comment string)
	walk = func(node *yamlv3.Node, path, comment string) {
		if node.Kind != yamlv3.MappingNode || len(node.Content) == 0 || isStructure(path) {
			comments[path] = comment
			return
		}
		for i := 0; i < len(node.Content); i += 2 {
			key := node.Content[i]
			walk(node.Content[i+1], strings.TrimPrefix(path+"."+key.Value, "."), key.HeadComment)
		}
	}
	walk(document.Content[0], "", "")
	return comments
}
