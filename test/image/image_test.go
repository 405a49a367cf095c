// SPDX-License-Identifier: Apache-2.0

// Package image_test builds the images of the Dockerfile for real, without a
// daemon and a registry, looks at what is in them, and runs it.
package image_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

const (
	version    = "1.2.3-test"
	bundlePath = "usr/share/nodegadget/btf.bundle"
	certsPath  = "etc/ssl/certs/ca-certificates.crt"
)

// TestImages builds every variant once, one after the other: they share caches.
func TestImages(t *testing.T) {
	b := newBuilder(t)
	archive := makeArchive(t)
	hub := "btfhub=" + archive

	native := b.build(t, "agent", "--build-context", hub)
	native.checkAgent(t, native.arch, true)
	// Of each architecture only the one that the image is for.
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[native.arch]
	foreign := b.build(t, "agent-"+other, "--build-context", hub, "--platform", "linux/"+other)
	foreign.checkAgent(t, other, true)

	t.Run("reproducible", func(t *testing.T) {
		again := b.build(t, "again", "--build-context", hub, "--no-cache")
		require.Equal(t, native.layers, again.layers)
		require.Equal(t, native.digest, again.digest)
	})
	t.Run("cloned archive, committed objects", func(t *testing.T) {
		cloned := b.build(t, "cloned", "--volume", makeRepository(t, archive)+":/archive:ro",
			"--build-arg", "BTFHUB_URL=file:///archive", "--build-arg", "GADGETS=committed")
		require.Equal(t, native.layers, cloned.layers)
	})
	t.Run("without bundle", func(t *testing.T) {
		bare := b.build(t, "bare", "--build-arg", "ENABLE_BTFGEN=false")
		bare.checkAgent(t, native.arch, false)
		require.Equal(t, native.files["gadget-agent"].data, bare.files["gadget-agent"].data)
		require.Equal(t, native.files["gadget-controller"].data, bare.files["gadget-controller"].data)
		checkServes(t, bare.unpack(t))
	})
	t.Run("runs", func(t *testing.T) {
		root := native.unpack(t)
		require.Equal(t, "gadget-agent version "+version+"\n", inRoot(t, root, "/gadget-agent", "--version"))
		require.Equal(t, "gadget-controller version "+version+"\n", inRoot(t, root, "/gadget-controller", "--version"))
		require.Equal(t, "/"+bundlePath, chosenBundle(t, root))
		checkServes(t, root)
		checkController(t, root)
	})
	t.Run("btfgen", func(t *testing.T) {
		service := b.build(t, "btfgen", "--target", "btfgen")
		service.checkService(t)
		checkService(t, service.unpack(t), archive)
	})
}

// checkAgent wants the agent's image to hold what it should, and nothing else.
func (i *image) checkAgent(t *testing.T, arch string, bundled bool) {
	t.Helper()
	want := []string{"etc", "etc/ssl", "etc/ssl/certs", certsPath, "gadget-agent", "gadget-controller", "usr", "usr/share", "usr/share/nodegadget"}
	if bundled {
		want = append(want, bundlePath)
	}
	slices.Sort(want)
	require.Equal(t, want, slices.Sorted(maps.Keys(i.files)))
	require.Equal(t, arch, i.arch)
	require.Equal(t, []string{"/gadget-agent"}, i.config.Entrypoint)
	require.Equal(t, []string{"serve", "--btf-install=/"}, i.config.Cmd)
	require.Equal(t, "0:0", i.config.User)
	i.checkCommon(t, "gadget-agent", arch)
	checkStatic(t, i.files["gadget-controller"].data, arch)
	if bundled {
		i.checkBundle(t)
	}
}

func (i *image) checkService(t *testing.T) {
	t.Helper()
	require.Equal(t, []string{"btfgen"}, slices.Collect(maps.Keys(i.files)))
	require.Equal(t, []string{"/btfgen"}, i.config.Entrypoint)
	require.Equal(t, []string{"serve", "--archive", "/btfhub"}, i.config.Cmd)
	require.Equal(t, "65532:65532", i.config.User)
	i.checkCommon(t, "btfgen", i.arch)
}

// checkCommon is what holds for every image of one program.
func (i *image) checkCommon(t *testing.T, program, arch string) {
	t.Helper()
	require.Equal(t, program, i.config.Labels["org.opencontainers.image.title"])
	require.Equal(t, version, i.config.Labels["org.opencontainers.image.version"])
	require.Contains(t, i.config.Labels["org.opencontainers.image.licenses"], "Apache-2.0")
	// Where this machine gets its modules from is nobody's business.
	require.NotContains(t, string(i.rawConfig), "GOPROXY")
	for name, f := range i.files {
		assert.Equal(t, epoch, f.header.ModTime.Unix(), name)
		assert.Zero(t, f.header.Uid+f.header.Gid, name)
		assert.Zero(t, f.header.Mode&0o022, "%s can be written by others", name)
	}
	checkStatic(t, i.files[program].data, arch)
}

// checkStatic wants a program of the architecture that needs no other file.
func checkStatic(t *testing.T, program []byte, arch string) {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(program))
	require.NoError(t, err)
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	require.Equal(t, machines[arch], file.Machine)
	for _, segment := range file.Progs {
		require.NotEqual(t, elf.PT_INTERP, segment.Type, "dynamically linked")
	}
	libraries, err := file.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
}

// checkBundle wants the bundle to be for the image's architecture and to serve all
// gadgets that are in git.
func (i *image) checkBundle(t *testing.T) {
	t.Helper()
	arch, err := layout.Arch(i.arch)
	require.NoError(t, err)
	b, err := bundle.New(i.files[bundlePath].data)
	require.NoError(t, err)
	require.NotEmpty(t, b.Kernels())
	for _, k := range b.Kernels() {
		require.Equal(t, arch, k.Arch)
	}
	paths, err := filepath.Glob("../../gadgets/*/gadget." + arch + ".o")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range append(paths, "../../pkg/container/bpf/tracker."+arch+".o") {
		needs, err := tailor.Parse(tailor.Object{Name: path, Content: read(t, path)})
		require.NoError(t, err)
		require.True(t, b.Serves(needs.Digest()), path)
	}
	info := b.Info()
	t.Logf("%s: bundle of %d kernels, %d different, %d bytes", i.arch, info.Kernels, info.Contents, info.Size)
}

// chosenBundle is where an agent that sees no BTF but the bundle's finds that of
// the running kernel.
func chosenBundle(t *testing.T, root string) string {
	t.Helper()
	var status struct {
		InKernel bool `json:"inKernel"`
		Source   struct {
			Kind  string `json:"kind"`
			Path  string `json:"path"`
			Proof string `json:"proof"`
		} `json:"source"`
	}
	require.NoError(t, json.Unmarshal([]byte(inRoot(t, root, "/gadget-agent", "btf", "status", "-o", "json")), &status))
	require.False(t, status.InKernel)
	require.Equal(t, "bundle-same-name", status.Source.Kind)
	require.NotEmpty(t, status.Source.Proof)
	return status.Source.Path
}
