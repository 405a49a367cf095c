// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli/values"
	"helm.sh/helm/v4/pkg/release"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/charts"
)

// load reads the chart that this program carries.
func load() (*chart.Chart, error) {
	var files []*archive.BufferedFile
	err := fs.WalkDir(charts.Nodegadget(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(charts.Nodegadget(), name)
		files = append(files, &archive.BufferedFile{Name: name, Data: data})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	return c, nil
}

// Values says with what the chart is rendered.
type Values struct {
	// Files are YAML files, Set single values: key=value. The latter win.
	Files, Set []string
	// Image is where the image is, in place of the chart's: repository:tag@digest.
	Image string
}

// merge makes one tree of the values.
func (v Values) merge() (map[string]any, error) {
	options := values.Options{ValueFiles: v.Files, Values: v.Set}
	merged, err := options.MergeValues(nil)
	if err != nil {
		return nil, fmt.Errorf("reading values: %w", err)
	}
	if v.Image == "" {
		return merged, nil
	}
	name, digest, _ := strings.Cut(v.Image, "@")
	tag := ""
	// A colon before a slash belongs to the registry's port.
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name, tag = name[:i], name[i+1:]
	}
	image, _ := merged["image"].(map[string]any)
	if image == nil {
		image = map[string]any{}
		merged["image"] = image
	}
	image["repository"], image["tag"], image["digest"] = name, tag, digest
	return merged, nil
}

// renderVersion is the version of Kubernetes that the chart is rendered for where no
// cluster says its own.
const renderVersion = "v1.36.0"

// Render is all that Deploy would install in a cluster of a version of Kubernetes, as
// YAML, the namespace included. It asks no cluster; an empty version is a recent one.
func Render(ctx context.Context, namespace, version string, v Values) (string, error) {
	own, err := v.merge()
	if err != nil {
		return "", err
	}
	return render(ctx, namespace, cmp.Or(version, renderVersion), own)
}

func render(ctx context.Context, namespace, version string, own map[string]any) (string, error) {
	c, err := load()
	if err != nil {
		return "", err
	}
	install := action.NewInstall(action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler)))
	if install.KubeVersion, err = common.ParseKubeVersion(version); err != nil {
		return "", fmt.Errorf("rendering the chart: %w", err)
	}
	install.DryRunStrategy = action.DryRunClient
	install.ReleaseName, install.Namespace, install.IncludeCRDs = releaseName, namespace, true
	rendered, err := install.RunWithContext(ctx, c, loader.MergeMaps(own, map[string]any{"namespace": map[string]any{"create": true}}))
	if err != nil {
		return "", fmt.Errorf("rendering the chart: %w", err)
	}
	accessor, err := release.NewAccessor(rendered)
	if err != nil {
		return "", fmt.Errorf("rendering the chart: %w", err)
	}
	return accessor.Manifest(), nil
}

// renderNamespace is the namespace as the chart has it, with the labels that let the
// agents in.
func renderNamespace(ctx context.Context, namespace string, own map[string]any) (*corev1.Namespace, error) {
	manifest, err := render(ctx, namespace, renderVersion, own)
	if err != nil {
		return nil, err
	}
	for document := range strings.SplitSeq(manifest, "\n---\n") {
		var found corev1.Namespace
		if err := yaml.Unmarshal([]byte(document), &found); err == nil && found.Kind == "Namespace" {
			return &found, nil
		}
	}
	return nil, errors.New("rendering the chart: it has no namespace")
}
