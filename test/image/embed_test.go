// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/build"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// TestEmbeddedBundle builds an agent with a bundle in it, and runs it where there
// is no other file.
func TestEmbeddedBundle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: changing the root directory and loading eBPF take it")
	}
	bundle := makeBundle(t)
	root := t.TempDir()
	carrying := filepath.Join(root, "gadget-agent")
	goBuild(t, carrying, "-tags", "embedbtf", "-overlay", overlay(t, bundle))
	plain := filepath.Join(t.TempDir(), "gadget-agent")
	goBuild(t, plain)

	require.True(t, bytes.Contains(read(t, carrying), bundle), "the bundle isn't in the program")
	require.False(t, bytes.Contains(read(t, plain), bundle), "the bundle is in a program built without the tag")
	require.Equal(t, "the built-in bundle", chosenBundle(t, root))
}

// makeBundle makes a bundle of a small archive, for this architecture.
func makeBundle(t *testing.T) []byte {
	t.Helper()
	arch, err := layout.Arch(runtime.GOARCH)
	require.NoError(t, err)
	paths, err := filepath.Glob("../../gadgets/*/gadget." + arch + ".o")
	require.NoError(t, err)
	var objects []tailor.Object
	for _, path := range paths {
		objects = append(objects, tailor.Object{Name: path, Content: read(t, path)})
	}
	data, _, err := build.Build(t.Context(), build.Options{
		Archive: makeArchive(t), Objects: objects, Filter: hub.Filter{Arches: []string{arch}},
	})
	require.NoError(t, err)
	return data
}

// overlay makes the compiler see the bundle where it has to be, without writing
// to the tree.
func overlay(t *testing.T, bundle []byte) string {
	t.Helper()
	dir := t.TempDir()
	at, err := filepath.Abs("../../pkg/btf/embedded/btf.bundle")
	require.NoError(t, err)
	file := filepath.Join(dir, "btf.bundle")
	require.NoError(t, os.WriteFile(file, bundle, 0o600))
	text, err := json.Marshal(map[string]map[string]string{"Replace": {at: file}})
	require.NoError(t, err)
	config := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(config, text, 0o600))
	return config
}

func goBuild(t *testing.T, out string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-o", out}, args...), "./cmd/gadget-agent")...)
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	log, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", log)
}
