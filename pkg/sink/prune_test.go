// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPruneRemovesTheOldestOfThoseThatAreGone(t *testing.T) {
	const here, gone, older = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555", "77777777-2222-3333-4444-555555555555"
	files := map[string]time.Duration{ // and how old they are
		"shop/carts-" + here + ".jsonl":    5 * time.Hour,
		"shop/carts-" + gone + ".jsonl":    time.Hour,
		"shop/carts-" + gone + ".jsonl.1":  2 * time.Hour,
		"_cluster/all-" + older + ".jsonl": 3 * time.Hour,
		"shop/notes.txt":                   9 * time.Hour,
		"carts-" + gone + ".jsonl":         9 * time.Hour,
	}
	left := func(dir string) []string {
		var names []string
		require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
			if !entry.IsDir() {
				names = append(names, path)
			}
			return err
		}))
		slices.Sort(names)
		return names
	}
	all := []string{
		"_cluster/all-" + older + ".jsonl", "carts-" + gone + ".jsonl", "shop/carts-" + here + ".jsonl",
		"shop/carts-" + gone + ".jsonl", "shop/carts-" + gone + ".jsonl.1", "shop/link-" + gone + ".jsonl", "shop/notes.txt",
	}
	for _, test := range []struct {
		most    int64
		removed []string
	}{
		{300, nil},
		{299, []string{"_cluster/all-" + older + ".jsonl"}},
		{100, []string{"_cluster/all-" + older + ".jsonl", "shop/carts-" + gone + ".jsonl.1"}},
		{0, []string{"_cluster/all-" + older + ".jsonl", "shop/carts-" + gone + ".jsonl.1", "shop/carts-" + gone + ".jsonl"}},
	} {
		dir := t.TempDir()
		for name, age := range files {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o600))
			require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
		}
		require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "shop/link-"+gone+".jsonl")))
		removed, err := Prune(dir, func(uid string) bool { return uid == here }, test.most)
		require.NoError(t, err)
		require.EqualValues(t, 100*len(test.removed), removed)
		want := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(test.removed, name) })
		slices.Sort(want)
		require.Equal(t, want, left(dir))
	}
	removed, err := Prune(filepath.Join(t.TempDir(), "none"), func(string) bool { return false }, 0)
	require.NoError(t, err)
	require.Zero(t, removed)
}
