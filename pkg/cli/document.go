// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/pkg/print"
)

// printDocument writes a value as JSON or YAML. Its texts are safe to print already.
func printDocument(w io.Writer, output string, value any) error {
	switch output {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "yaml":
		data, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	return usagef("--output is %q, want columns, wide, json or yaml", output)
}

// printObjects writes objects as the API server has them.
func printObjects(w io.Writer, output string, sessions []traceSession) error {
	items := make([]any, 0, len(sessions))
	for i := range sessions {
		items = append(items, tidy(sessions[i].raw).Object)
	}
	return printForeign(w, output, map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items})
}

// tidy is the object without what only the API server reads.
func tidy(raw *unstructured.Unstructured) *unstructured.Unstructured {
	raw = raw.DeepCopy()
	raw.SetManagedFields(nil)
	return raw
}

// printForeign writes a value whose texts may be anything. Only if they aren't safe to
// print are they changed.
func printForeign(w io.Writer, output string, value any) error {
	var plain bytes.Buffer
	// YAML refuses some of what isn't safe by itself.
	if err := printDocument(&plain, output, value); err == nil && print.EscapeLines(plain.String()) == plain.String() {
		_, err := plain.WriteTo(w)
		return err
	}
	return printDocument(w, output, harmless(value))
}

// harmless is the value with texts that are safe to print.
func harmless(value any) any {
	switch v := value.(type) {
	case string:
		return print.Escape(v)
	case []any:
		safe := make([]any, 0, len(v))
		for _, item := range v {
			safe = append(safe, harmless(item))
		}
		return safe
	case map[string]any:
		safe := map[string]any{}
		for key, item := range v {
			safe[print.Escape(key)] = harmless(item)
		}
		return safe
	}
	return value
}
