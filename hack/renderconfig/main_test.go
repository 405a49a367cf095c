// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestConfigIsCurrent wants config/ to be what the chart makes now.
func TestConfigIsCurrent(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run(t.Context(), "../../charts/nodegadget", dir))
	for _, base := range []string{"admission", "agent", "controller", "crd", "default", "rbac"} {
		want, got := read(t, filepath.Join(dir, base)), read(t, filepath.Join("../../config", base))
		require.NotEmpty(t, want)
		require.Equal(t, want, got, "run make generate")
	}
}

// TestKustomize wants config/default to have every object of the chart but its test.
func TestKustomize(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../config/default")
	require.NoError(t, err)
	rendered, err := render(t.Context(), "../../charts/nodegadget")
	require.NoError(t, err)
	objects := 0
	for _, content := range rendered {
		for _, document := range split(content) {
			base, err := baseOf(document)
			require.NoError(t, err)
			if base != "" {
				objects++
			}
		}
	}
	require.Equal(t, objects, built.Size())
	for _, id := range built.AllIds() {
		require.NotEqual(t, "Pod", id.Kind)
	}
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[entry.Name()] = string(data)
		return err
	}))
	return files
}
