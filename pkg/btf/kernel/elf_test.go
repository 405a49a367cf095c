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
