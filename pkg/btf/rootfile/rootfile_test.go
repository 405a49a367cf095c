// SPDX-License-Identifier: Apache-2.0

package rootfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("untouched"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link")))
	for _, name := range []string{"new", "new", "link"} {
		require.NoError(t, Replace(root, name, []byte(name)))
		got, err := root.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, name, string(got))
	}
	got, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "untouched", string(got), "the link is replaced, not followed")
	require.Error(t, Replace(root, "none/new", nil))
	require.Error(t, Replace(root, "../new", nil))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing temporary is left")
}
