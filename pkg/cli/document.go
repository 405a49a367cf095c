// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"io"

	"sigs.k8s.io/yaml"
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
