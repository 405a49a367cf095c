// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/guest/internal/boot"
	"nodegadget.dev/test/kernels/cpio"
)

func TestInitrd(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "files/etc/kubernetes/kubelet.yaml"), "kubelet")
	var buf bytes.Buffer
	err := initrd{
		init: write(t, filepath.Join(dir, "program"), "init"), release: "ID=debian\n",
		config:  boot.Config{Name: "node3"},
		modules: []string{write(t, filepath.Join(dir, "kernel/a.ko"), "a"), write(t, filepath.Join(dir, "kernel/b.ko"), "b")},
		machine: &cluster.Machine{Name: "node3", Address: "10.0.0.3", Files: filepath.Join(dir, "files")},
	}.writeTo(cpio.NewWriter(&buf))
	require.NoError(t, err)
	got, err := cpio.List(&buf)
	require.NoError(t, err)
	for _, want := range []string{
		`020600 dev/console 5,1 ""`,
		`100755 init 0,0 "init"`,
		`100644 modules/a.ko 0,0 "a"`,
		`100644 node/etc/kubernetes/kubelet.yaml 0,0 "kubelet"`,
		`100644 node/etc/os-release 0,0 "ID=debian\n"`,
		`100644 node/etc/hosts 0,0 "127.0.0.1 localhost\n10.0.0.3 node3\n"`,
		`\"Modules\":[\"a.ko\",\"b.ko\"]`,
	} {
		require.Contains(t, got, want)
	}
}

func TestMAC(t *testing.T) {
	require.Equal(t, "52:54:0a:59:00:66", mac("10.89.0.102"))
}
