// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// image is what an OCI layout holds of one image.
type image struct {
	digest    string   // of the manifest
	layers    []string // their digests
	packed    int64    // bytes of the layers
	arch      string   // as Go calls it
	config    imageConfig
	rawConfig []byte
	files     map[string]file // by path, without a slash at either end
}

type imageConfig struct {
	User            string
	Entrypoint, Cmd []string
	Labels          map[string]string
}

type file struct {
	header *tar.Header
	data   []byte
}

type descriptor struct {
	Digest      string
	Size        int64
	Annotations map[string]string
}

// readImage reads the image of that name.
func readImage(t *testing.T, dir, name string) *image {
	t.Helper()
	blob := func(digest string) []byte {
		return read(t, filepath.Join(dir, "blobs", strings.Replace(digest, ":", "/", 1)))
	}
	var index struct{ Manifests []descriptor }
	require.NoError(t, json.Unmarshal(read(t, filepath.Join(dir, "index.json")), &index))
	i := &image{files: make(map[string]file)}
	for _, m := range index.Manifests {
		if m.Annotations["org.opencontainers.image.ref.name"] == name {
			i.digest = m.Digest
		}
	}
	require.NotEmpty(t, i.digest, "no image %s in the layout", name)
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	require.NoError(t, json.Unmarshal(blob(i.digest), &manifest))
	i.rawConfig = blob(manifest.Config.Digest)
	var config struct {
		Architecture string
		Config       imageConfig
	}
	require.NoError(t, json.Unmarshal(i.rawConfig, &config))
	i.arch, i.config = config.Architecture, config.Config
	for _, l := range manifest.Layers {
		i.layers = append(i.layers, l.Digest)
		i.packed += l.Size
		i.addLayer(t, blob(l.Digest))
	}
	return i
}

func (i *image) addLayer(t *testing.T, packed []byte) {
	t.Helper()
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	for layer := tar.NewReader(unpacked); ; {
		header, err := layer.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		data, err := io.ReadAll(layer)
		require.NoError(t, err)
		require.Contains(t, []byte{tar.TypeReg, tar.TypeDir}, header.Typeflag, header.Name)
		i.files[strings.Trim(header.Name, "/")] = file{header, data}
	}
}

// unpacked is the size of all files, in bytes.
func (i *image) unpacked() int64 {
	var n int64
	for _, f := range i.files {
		n += f.header.Size
	}
	return n
}

// unpack writes the files to a new directory.
func (i *image) unpack(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	// Of the image's user, too.
	require.NoError(t, os.Chmod(root, 0o755))
	for name, f := range i.files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if f.header.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		require.NoError(t, os.WriteFile(path, f.data, f.header.FileInfo().Mode()))
	}
	return root
}
