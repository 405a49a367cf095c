// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, []byte("#!"), 0o755))
	i := &Image{
		Name: "nodegadget.test/x:1", Dirs: []string{"/tmp"}, Entrypoint: []string{"/usr/bin/x"}, Env: []string{"A=b"},
		Files: map[string]string{"/usr/bin/x": program}, Links: map[string]string{"/usr/bin/y": "x"},
	}
	archive := filepath.Join(dir, "x.tar")
	require.NoError(t, i.Write(archive))

	read, err := tarball.ImageFromPath(archive, nil)
	require.NoError(t, err)
	config, err := read.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "linux", config.OS)
	require.Equal(t, []string{"/usr/bin/x"}, config.Config.Entrypoint)
	require.Equal(t, []string{"A=b"}, config.Config.Env)

	var names []string
	modes := map[string]int64{}
	files := mutate.Extract(read)
	defer files.Close()
	for layer := tar.NewReader(files); ; {
		header, err := layer.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, header.Name)
		modes[header.Name] = header.Mode
	}
	require.Equal(t, []string{"tmp", "usr", "usr/bin", "usr/bin/x", "usr/bin/y"}, names)
	require.Equal(t, int64(0o1777), modes["tmp"])
	require.Equal(t, int64(0o755), modes["usr/bin/x"])
}
