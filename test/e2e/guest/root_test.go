// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, file, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	return file
}

func TestRootKey(t *testing.T) {
	dir := t.TempDir()
	program, image := write(t, filepath.Join(dir, "program"), "one"), write(t, filepath.Join(dir, "image"), "one")
	root := Root{Images: []string{image}}
	key := func(change func(*tree)) string {
		t.Helper()
		plan := &tree{files: map[string]string{"/bin/program": program}, links: map[string]string{}}
		change(plan)
		key, err := root.key(plan)
		require.NoError(t, err)
		return key
	}
	same := func(*tree) {}
	before := key(same)
	require.Equal(t, before, key(same))

	require.NotEqual(t, before, key(func(plan *tree) { plan.files["/bin/other"] = program }))
	require.NotEqual(t, before, key(func(plan *tree) { plan.links["/bin/other"] = "program" }))
	write(t, image, "two")
	changedImage := key(same)
	require.NotEqual(t, before, changedImage)
	write(t, program, "two")
	require.NotEqual(t, changedImage, key(same))
}

func TestTreeWrite(t *testing.T) {
	dir := t.TempDir()
	program := write(t, filepath.Join(dir, "program"), "text")
	plan := &tree{
		dirs:  []string{"/usr/bin", "/tmp", "/var/tmp", "/etc"},
		links: map[string]string{"/bin": "usr/bin", "/usr/bin/other": "program"},
		files: map[string]string{"/bin/program": program},
		texts: map[string]string{"/etc/passwd": "root"},
	}
	root := filepath.Join(dir, "root")
	require.NoError(t, plan.write(root))
	for name, want := range map[string]string{"/usr/bin/program": "text", "/bin/other": "text", "/etc/passwd": "root"} {
		got, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, want, string(got), name)
	}
	info, err := os.Stat(filepath.Join(root, "tmp"))
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|os.ModeSticky|0o777, info.Mode())
	require.Error(t, plan.write(root), "over what is there")
}

func TestPrune(t *testing.T) {
	root := Root{Dir: t.TempDir()}
	now := time.Now()
	for i, name := range []string{"guest-new.ext4", "guest-old.ext4", "guest-older.ext4", "hyperkube-x"} {
		file := write(t, filepath.Join(root.Dir, name), "")
		require.NoError(t, os.Chtimes(file, now, now.Add(-time.Duration(i)*time.Hour)))
	}
	require.NoError(t, root.prune())
	left, err := filepath.Glob(filepath.Join(root.Dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{
		filepath.Join(root.Dir, "guest-new.ext4"), filepath.Join(root.Dir, "guest-old.ext4"), filepath.Join(root.Dir, "hyperkube-x"),
	}, left)
}

func TestLibraries(t *testing.T) {
	shell, err := find("sh")
	require.NoError(t, err)
	files := map[string]string{}
	require.NoError(t, addLibraries(files, shell))
	for name, file := range files {
		require.Equal(t, name, file, "libraries stay where programs look for them")
	}
	require.ErrorContains(t, addLibraries(files, write(t, filepath.Join(t.TempDir(), "script"), "#!/bin/sh")), "script")
	_, err = find("no-such-program")
	require.ErrorIs(t, err, os.ErrNotExist)
}
