// SPDX-License-Identifier: Apache-2.0

package service

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// operation is what of an OpenAPI operation can disagree with the routes.
type operation struct {
	OperationID string
	Summary     string
	Parameters  []struct {
		Name, In    string
		Required    bool
		Description string
		Schema      map[string]any
	}
	RequestBody *struct {
		Required bool
		Content  map[string]struct {
			Schema struct {
				Required   []string
				Properties map[string]any
			}
		}
	}
	Responses map[string]map[string]any
}

type openAPIDocument struct {
	OpenAPI string
	Info    struct{ Title, Version string }
	Paths   map[string]map[string]operation
}

func TestOpenAPIHasTheRoutes(t *testing.T) {
	s := server(t, Options{})
	w := call(s, "GET", "/v1/openapi.json", "", nil)
	require.Equal(t, 200, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var doc openAPIDocument
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
	require.Regexp(t, `^3\.1\.\d+$`, doc.OpenAPI)
	require.NotEmpty(t, doc.Info.Title)
	require.NotEmpty(t, doc.Info.Version)

	ids, documented := map[string]bool{}, 0
	for _, methods := range doc.Paths {
		documented += len(methods)
	}
	require.Len(t, s.routes(), documented, "each operation of the document is a route")
	for _, route := range s.routes() {
		op, ok := doc.Paths[route.path][strings.ToLower(route.method)]
		require.True(t, ok, "%s %s", route.method, route.path)
		require.NotEmpty(t, op.Summary, route.path)
		require.NotEmpty(t, op.OperationID)
		require.False(t, ids[op.OperationID], op.OperationID)
		ids[op.OperationID] = true
		requireParameters(t, route, op)
		requireResponses(t, route, op)
	}
}

func requireParameters(t *testing.T, route route, op operation) {
	t.Helper()
	var inQuery, inPath []string
	for _, p := range op.Parameters {
		require.NotEmpty(t, p.Description, p.Name)
		require.NotEmpty(t, p.Schema, p.Name)
		switch p.In {
		case "query":
			inQuery = append(inQuery, p.Name)
		case "path":
			require.True(t, p.Required, p.Name)
			inPath = append(inPath, p.Name)
		default:
			require.Fail(t, "parameter in "+p.In)
		}
	}
	require.ElementsMatch(t, route.query, inQuery, route.path)
	var placeholders []string
	for _, match := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(route.path, -1) {
		placeholders = append(placeholders, match[1])
	}
	require.ElementsMatch(t, placeholders, inPath, route.path)
}

func requireResponses(t *testing.T, route route, op operation) {
	t.Helper()
	require.Contains(t, op.Responses, "200", route.path)
	require.Contains(t, op.Responses, "400", route.path)
	_, limited := op.Responses["429"]
	require.Equal(t, !route.free, limited, route.path)
	upload := op.RequestBody != nil
	require.Equal(t, route.method == "POST", upload, route.path)
	for _, status := range []string{"408", "413", "415", "503"} {
		if upload {
			require.Contains(t, op.Responses, status, route.path)
		}
	}
}

// Uploads that the document knows are not refused for their type or part, others are.
func TestOpenAPIHasTheUploads(t *testing.T) {
	var doc openAPIDocument
	require.NoError(t, json.Unmarshal(openAPI, &doc))
	s := server(t, Options{})
	targets := map[string]string{
		"/v1/tailor": "/v1/tailor" + query(focal), "/v1/bundle": "/v1/bundle" + query(focal),
		"/api/v1/customize": "/api/v1/customize?distribution=ubuntu&distribution_version=20.04&arch=x86_64&kernel_version=" + focal.Uname,
	}
	for path, target := range targets {
		uploads := doc.Paths[path]["post"].RequestBody
		require.True(t, uploads.Required)
		for _, contentType := range []string{octetStream, elfType, "multipart/form-data", "text/plain"} {
			body, sent := object(t), contentType
			content, known := uploads.Content[contentType]
			if contentType == "multipart/form-data" {
				require.Equal(t, slices.Collect(maps.Keys(content.Schema.Properties)), content.Schema.Required)
				sent, body = form(t, content.Schema.Required[0], object(t))
			}
			w := call(s, "POST", target, sent, body)
			if known {
				require.Equal(t, 200, w.Code, w.Body.String())
			} else {
				requireProblem(t, w, badType, "content type")
			}
		}
	}
}

func TestOpenAPIIsSound(t *testing.T) {
	var doc map[string]any
	require.NoError(t, json.Unmarshal(openAPI, &doc))
	seen := map[string]bool{}
	var visit func(value any)
	visit = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			if ref, ok := value["$ref"].(string); ok {
				require.True(t, strings.HasPrefix(ref, "#/components/"), ref)
				at := any(doc)
				for _, step := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					at = at.(map[string]any)[step]
				}
				require.NotNil(t, at, ref)
				seen[strings.TrimPrefix(ref, "#/components/")] = true
			}
			for _, inner := range value {
				visit(inner)
			}
		case []any:
			for _, inner := range value {
				visit(inner)
			}
		}
	}
	visit(doc)
	components := doc["components"].(map[string]any)
	for _, section := range slices.Sorted(maps.Keys(components)) {
		for name := range components[section].(map[string]any) {
			require.True(t, seen[section+"/"+name], "%s/%s is not used", section, name)
		}
	}

	problem := components["schemas"].(map[string]any)["Problem"].(map[string]any)
	types := problem["properties"].(map[string]any)["type"].(map[string]any)["enum"].([]any)
	var want []any
	for kind := range kinds {
		want = append(want, typePrefix+string(kind))
	}
	require.ElementsMatch(t, want, types)
}
