// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWalkVisitsAllAndFollowsNoLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "c"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(outside, "secret"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), nil, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("..", filepath.Join(dir, "a/up")))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	var paths []string
	ids := make(map[string]uint64)
	require.NoError(t, (&tree{dir: root}).walk(func(f found) {
		paths = append(paths, f.path)
		ids[f.path] = f.id
		if f.path != "/" {
			require.Equal(t, ids[filepath.Dir(f.path)], f.parent, f.path)
		}
	}))
	require.Equal(t, []string{"/", "/a", "/a/b", "/c"}, paths)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, "a/b"), &stat))
	require.Equal(t, stat.Ino, ids["/a/b"])
}

func TestWalkSaysWhatItLeavesOut(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", maxDepth)), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "e"), 0o755))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	n := 0
	err = (&tree{dir: root}).walk(func(found) { n++ })
	require.ErrorIs(t, err, errDeep)
	require.Equal(t, maxDepth+1, n, "all others are there")
}

func TestOpenTreeWantsCgroups(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pids"), 0o755))
	_, err := openTree(dir)
	require.EqualError(t, err, "opening cgroups: "+dir+" has neither cgroup v2 nor the pids or memory controller of v1")
	_, err = openTree(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(Options{Cgroups: dir})
	require.ErrorContains(t, err, "neither cgroup v2 nor")
}

func TestReadMembership(t *testing.T) {
	const hybrid = "12:memory:/kubepods/x\n8:pids:/kubepods/pod:1\n2:cpu,cpuacct:/\n1:name=systemd:/init.scope\n0::/unified\n"
	for _, test := range []struct {
		name, text string
		of         Hierarchy
		want       membership
		err        string
	}{
		{"v2", "0::/a/b\n", V2, membership{0, "/a/b"}, ""},
		{"v2 on hybrid", hybrid, V2, membership{0, "/unified"}, ""},
		{"pids", hybrid, V1Pids, membership{8, "/kubepods/pod:1"}, ""},
		{"memory", hybrid, V1Memory, membership{12, "/kubepods/x"}, ""},
		{"several controllers", "3:cpu,pids:/p\n", V1Pids, membership{3, "/p"}, ""},
		{"no controller", "0::/\n", V1Pids, membership{}, "this process is in no cgroup of cgroup v1, pids"},
		{"no v2", "3:pids:/\n", V2, membership{}, "this process is in no cgroup of cgroup v2"},
		{"not such a file", "x:y\n:\n1\n::\n", V2, membership{}, "this process is in no cgroup of cgroup v2"},
		{"empty", "", V1Memory, membership{}, "this process is in no cgroup of cgroup v1, memory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readMembership(test.text, test.of)
			require.Equal(t, test.want, got)
			if test.err == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.err)
		})
	}
}

func TestParseEvent(t *testing.T) {
	header := []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}
	for _, test := range []struct {
		name, rest string
		want       event
	}{
		{"made", "\x01\x00\x00\x00/a/b\x00", event{id: 1, parent: 2, name: "b"}},
		{"removed", "\x02\x00\x00\x00/a/b\x00", event{id: 1, parent: 2, name: "b", removed: true}},
		{"padded", "\x01\x00\x00\x00/a/b\x00/c\x00", event{id: 1, parent: 2, name: "b"}},
		{"no path", "\x01\x00\x00\x00", event{id: 1, parent: 2, name: "."}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseEvent(append(header[:len(header):len(header)], test.rest...))
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	_, err := parseEvent(header)
	require.EqualError(t, err, "event of 16 bytes, want at least 20")
}
