// SPDX-License-Identifier: Apache-2.0

package containerdtest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/stretchr/testify/require"
)

// ImportImage gives a daemon the image that sandboxes are made of, and containers
// can be made of. Its only program waits. The result is the image's digest.
func ImportImage(tb testing.TB, c *client.Client) string {
	tb.Helper()
	archive := newArchive(tb)
	layer := archive.layer(buildPause(tb))
	config := archive.json(map[string]any{
		"architecture": goruntime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{"/pause"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}},
	})
	layer.MediaType = "application/vnd.oci.image.layer.v1.tar"
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	manifest := archive.json(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        config,
		"layers":        []blob{layer},
	})
	manifest.MediaType = "application/vnd.oci.image.manifest.v1+json"
	manifest.Annotations = map[string]string{"io.containerd.image.name": PauseImage}
	archive.file("index.json", archive.marshal(map[string]any{"schemaVersion": 2, "manifests": []blob{manifest}}))
	archive.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	require.NoError(tb, archive.tar.Close())

	ctx := namespaces.WithNamespace(tb.Context(), "k8s.io")
	images, err := c.Import(ctx, &archive.content)
	require.NoError(tb, err)
	require.Len(tb, images, 1)
	require.NoError(tb, client.NewImage(c, images[0]).Unpack(ctx, ""))
	return images[0].Target.Digest.String()
}

// blob is a descriptor of OCI's.
type blob struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// archive is an image in OCI's layout.
type archive struct {
	tb      testing.TB
	content bytes.Buffer
	tar     *tar.Writer
}

func newArchive(tb testing.TB) *archive {
	a := &archive{tb: tb}
	a.tar = tar.NewWriter(&a.content)
	return a
}

func (a *archive) file(name string, content []byte) {
	a.tb.Helper()
	require.NoError(a.tb, a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := a.tar.Write(content)
	require.NoError(a.tb, err)
}

func (a *archive) blob(content []byte) blob {
	a.tb.Helper()
	digest := fmt.Sprintf("%x", sha256.Sum256(content))
	a.file("blobs/sha256/"+digest, content)
	return blob{Digest: "sha256:" + digest, Size: len(content)}
}

func (a *archive) json(value any) blob {
	a.tb.Helper()
	return a.blob(a.marshal(value))
}

func (a *archive) marshal(value any) []byte {
	a.tb.Helper()
	content, err := json.Marshal(value)
	require.NoError(a.tb, err)
	return content
}

// layer holds one program.
func (a *archive) layer(program []byte) blob {
	a.tb.Helper()
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	require.NoError(a.tb, writer.WriteHeader(&tar.Header{Name: "pause", Mode: 0o755, Size: int64(len(program))}))
	_, err := writer.Write(program)
	require.NoError(a.tb, err)
	require.NoError(a.tb, writer.Close())
	return a.blob(content.Bytes())
}

// buildPause builds a program that waits and needs no libraries.
func buildPause(tb testing.TB) []byte {
	tb.Helper()
	dir := tb.TempDir()
	source, program := filepath.Join(dir, "pause.go"), filepath.Join(dir, "pause")
	require.NoError(tb, os.WriteFile(source, []byte("package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(time.Hour) }\n"), 0o600))
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(tb, err, "%s", output)
	content, err := os.ReadFile(program)
	require.NoError(tb, err)
	return content
}
