// SPDX-License-Identifier: Apache-2.0

// Package charts_test renders the chart with Helm's own library and looks at what
// comes out.
package charts_test

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/charts"
)

// kubeVersion is that of the cluster that charts are rendered for.
const kubeVersion = "v1.36.3"

// load loads the chart from what the plugin has of it.
func load(t *testing.T) *chart.Chart {
	t.Helper()
	var files []*archive.BufferedFile
	err := fs.WalkDir(charts.Nodegadget(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(charts.Nodegadget(), name)
		files = append(files, &archive.BufferedFile{Name: name, Data: data})
		return err
	})
	require.NoError(t, err)
	c, err := loader.LoadFiles(files)
	require.NoError(t, err)
	return c
}

// values checks values, and completes them with the chart's.
func values(t *testing.T, c *chart.Chart, version, text string) (common.Values, error) {
	t.Helper()
	var own map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &own))
	parsed, err := common.ParseKubeVersion(version)
	require.NoError(t, err)
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = *parsed
	release := common.ReleaseOptions{Name: "nodegadget", Namespace: "nodegadget", Revision: 1, IsInstall: true}
	return util.ToRenderValues(c, own, release, caps)
}

// render is all that the chart makes of values, by the file's name in templates.
func render(t *testing.T, version, text string) map[string]string {
	t.Helper()
	c := load(t)
	all, err := values(t, c, version, text)
	require.NoError(t, err)
	rendered, err := engine.Engine{}.RenderWithContext(t.Context(), c, all)
	require.NoError(t, err)
	short := make(map[string]string)
	for name, content := range rendered {
		short[strings.TrimPrefix(name, "nodegadget/templates/")] = content
	}
	return short
}

// manifests are the documents of a render, each with its comments.
func manifests(rendered map[string]string) []string {
	var documents []string
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		for _, document := range strings.Split("\n"+rendered[name], "\n---") {
			if document = strings.Trim(document, "\n"); hasContent(document) {
				documents = append(documents, document)
			}
		}
	}
	return documents
}

func hasContent(document string) bool {
	for line := range strings.Lines(document) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return true
		}
	}
	return false
}
