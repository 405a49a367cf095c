// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"debug/elf"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// TestOtherToolsReadTheFile: what is installed is for them.
func TestOtherToolsReadTheFile(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"x86_64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		raw := rawBTF(t, right)
		path := put(t, t.TempDir(), "vmlinux", EncodeELF(raw, arch))
		file, err := elf.Open(path)
		require.NoError(t, err)
		require.Equal(t, machine, file.Machine)
		require.NoError(t, file.Close())
		spec, err := btf.LoadSpec(path)
		require.NoError(t, err)
		var task *btf.Struct
		require.NoError(t, spec.TypeByName("task_struct", &task))
		content, err := readPath(path)
		require.NoError(t, err)
		require.Equal(t, raw, content.raw)

		bpftool, err := exec.LookPath("bpftool")
		if err != nil {
			t.Skipf("no bpftool: %v", err)
		}
		out, err := exec.CommandContext(t.Context(), bpftool, "btf", "dump", "file", path).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "STRUCT 'task_struct' size=4096")
	}
}

// TestInstalledFilesAreForOtherTools: the next gadget may need types that they
// haven't, and there may be a service that has.
func TestInstalledFilesAreForOtherTools(t *testing.T) {
	n := newNode(t)
	path := put(t, n.root, "boot/vmlinux-"+release, EncodeELF(rawBTF(t, right), "x86_64"))
	_, err := n.open(Options{}).Types(t.Context())
	require.ErrorContains(t, err, path+": installed for other tools by gadget-agent btf install")
	got, err := n.open(Options{Path: path}).Types(t.Context())
	require.NoError(t, err)
	require.Equal(t, Explicit, got.Source.Kind)
}
