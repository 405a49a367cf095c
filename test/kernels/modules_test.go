// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWriteModules(t *testing.T) {
	pack := func(names ...string) *bytes.Buffer {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, name := range names {
			require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 1, Mode: 0o644}))
			_, err := w.Write([]byte("x"))
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		return &buf
	}
	for _, tc := range []struct {
		name    string
		members []string
		want    []string
		err     string
	}{
		{
			name: "modules only",
			members: []string{
				"./boot/vmlinuz-6.1", "./lib/modules/6.1/kernel/fs/ext4/ext4.ko", "./lib/modules/6.1/modules.builtin",
				"./usr/lib/modules/6.1/kernel/net/a.ko.xz",
			},
			want: []string{"6.1/kernel/fs/ext4/ext4.ko", "6.1/kernel/net/a.ko.xz"},
		},
		{name: "none", members: []string{"./boot/vmlinuz-6.1"}, err: "no modules in the package"},
		{name: "outside", members: []string{"./lib/modules/../kernel/../../../../x.ko"}, err: "no modules in the package"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			err := writeModules(pack(tc.members...), dir)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			var got []string
			require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					got = append(got, name)
				}
				return err
			}))
			require.Equal(t, tc.want, got)
		})
	}
}

func TestModulesOfTheSamePackage(t *testing.T) {
	s, downloads := fakeArchive(t)
	k := kernel{Name: "6.18", Arch: "amd64", Source: testSource(`^linux-image-6\.18\.`, "good", "other")}
	image := kernelImage{
		Package: pkg{Name: "linux-image-6.18.15+deb13-cloud-amd64", Version: "6.18.15-1~bpo13+1"},
		Boot:    filepath.Join(s.dir, "amd64", "linux-image", bootFile),
	}
	dir := filepath.Join(s.dir, "amd64", "linux-image-modules")
	require.NoError(t, os.MkdirAll(dir, 0o755))

	got, err := s.modules(t.Context(), k, image)
	require.NoError(t, err)
	require.Equal(t, dir, got)
	require.Zero(t, downloads(), "what is there was downloaded")

	require.NoError(t, os.Remove(dir))
	image.Package.Version = "6.18.1-1"
	_, err = s.modules(t.Context(), k, image)
	require.ErrorContains(t, err, "in none of [good other] any more")

	k.Build = "nobtf"
	got, err = s.modules(t.Context(), k, image)
	require.NoError(t, err)
	require.Empty(t, got)
}
