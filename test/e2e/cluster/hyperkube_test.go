// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHyperkube(t *testing.T) {
	t.Setenv("NODEGADGET_CACHE", "/cache")
	h, err := FindHyperkube("../hyperkube")
	require.NoError(t, err)
	require.Regexp(t, `^/cache/e2e/hyperkube-[0-9a-f]{16}$`, h.Path)
	flags, err := h.linkerFlags()
	require.NoError(t, err)
	require.Regexp(t, `^-s -w -X k8s.io/component-base/version.gitVersion=v1\.\d+\.\d+ .*gitMajor=1 .*gitMinor=\d+ `, flags)

	// Other sources, another program.
	changed := t.TempDir()
	require.NoError(t, os.CopyFS(changed, os.DirFS("../hyperkube")))
	require.NoError(t, os.WriteFile(filepath.Join(changed, "go.sum"), nil, 0o644))
	other, err := FindHyperkube(changed)
	require.NoError(t, err)
	require.NotEqual(t, h.Path, other.Path)
}
