// SPDX-License-Identifier: Apache-2.0

// Package image makes container images of files, without a registry, a daemon or a
// base image: archives that container runtimes import.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is an image of one layer.
type Image struct {
	// Name is the reference that pods call it by, with a tag.
	Name string
	// Files are paths in the image, and what is copied there.
	Files map[string]string
	// Links are paths in the image, and where they point to.
	Links map[string]string
	// Dirs are further directories, which are open to all.
	Dirs []string
	// Entrypoint is what the container runs, Env its environment.
	Entrypoint, Env []string
}

// Write writes an archive.
func (i *Image) Write(archive string) error {
	tag, err := name.NewTag(i.Name)
	if err != nil {
		return err
	}
	layer, err := i.layer()
	if err != nil {
		return fmt.Errorf("packing %s: %w", i.Name, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	image, err = mutate.ConfigFile(image, i.config(image))
	if err != nil {
		return err
	}
	return tarball.WriteToFile(archive, tag, image)
}

func (i *Image) config(image v1.Image) *v1.ConfigFile {
	// The error is that of images which are read from somewhere.
	config, _ := image.ConfigFile()
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint, config.Config.Env = i.Entrypoint, i.Env
	return config
}

func (i *Image) layer() (v1.Layer, error) {
	var text bytes.Buffer
	w := writer{tar.NewWriter(&text), map[string]bool{"/": true}}
	for _, dir := range i.Dirs {
		if err := w.dir(dir, 0o1777); err != nil {
			return nil, err
		}
	}
	for _, to := range slices.Sorted(maps.Keys(i.Files)) {
		if err := w.file(to, i.Files[to]); err != nil {
			return nil, err
		}
	}
	for _, from := range slices.Sorted(maps.Keys(i.Links)) {
		if err := w.link(from, i.Links[from]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil }
	// Nobody keeps them.
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestSpeed))
}

// writer writes a layer, each directory before what is in it.
type writer struct {
	*tar.Writer
	dirs map[string]bool
}

func (w writer) dir(dir string, mode int64) error {
	if w.dirs[dir] {
		return nil
	}
	if err := w.dir(path.Dir(dir), 0o755); err != nil {
		return err
	}
	w.dirs[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: mode})
}

func (w writer) file(to, from string) error {
	if err := w.dir(path.Dir(to), 0o755); err != nil {
		return err
	}
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: to[1:], Mode: int64(info.Mode().Perm()), Size: info.Size()}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	return err
}

func (w writer) link(from, to string) error {
	if err := w.dir(path.Dir(from), 0o755); err != nil {
		return err
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: from[1:], Linkname: to, Mode: 0o777})
}
