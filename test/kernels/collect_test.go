// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/layout"
)

func TestChoose(t *testing.T) {
	l := line{Arch: "amd64", Take: 2, Source: testSource(`^k-\d$`, "new", "old")}
	at := func(suite, name, version string) located {
		return located{pkg{name, version}, archive{suite: suite}}
	}
	got := choose([]located{
		at("new", "k-3", "3"), at("new", "k-4", "4"), at("new", "other", "9"), at("new", "k-4", "4.1"),
		at("old", "k-1", "1"), at("old", "k-3", "3"),
	}, l)
	require.Equal(t, []located{at("new", "k-4", "4.1"), at("old", "k-1", "1"), at("new", "k-3", "3")}, got)
	require.Empty(t, choose(nil, l))
}

func TestReleaseOf(t *testing.T) {
	image := []byte("xLinux version %s (%s)\x00Linux version 6.12.94+deb13-amd64 (debian-kernel@lists.debian.org) (gcc")
	got, err := releaseOf(image)
	require.NoError(t, err)
	require.Equal(t, "6.12.94+deb13-amd64", got)
	for _, image := range []string{"", "Linux version ", "Linux version %s", "Linux version 6.1", "Linux version 6" + string(bytes.Repeat([]byte("1"), 200)) + " "} {
		_, err := releaseOf([]byte(image))
		require.ErrorContains(t, err, "does not say its version", image)
	}
}

func TestPackBTF(t *testing.T) {
	file := filepath.Join(t.TempDir(), "debian", "12", "k.btf.tar.xz")
	btf := testBTF(1000)
	size, err := packBTF(t.Context(), "6.1.0-1-amd64", btf, file)
	require.NoError(t, err)
	packed, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Len(t, packed, int(size))

	plain, err := decompress(t.Context(), packed)
	require.NoError(t, err)
	r := tar.NewReader(bytes.NewReader(plain))
	header, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, "6.1.0-1-amd64.btf", header.Name)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, btf, got)
	_, err = r.Next()
	require.ErrorIs(t, err, io.EOF)

	_, err = packBTF(t.Context(), "6.1.0-1-amd64", btf, file)
	require.NoError(t, err)
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, packed, again)
}

func testCorpus(t *testing.T) *corpus {
	t.Helper()
	c, err := openCorpus(t.TempDir(), filepath.Join(t.TempDir(), "state.json"))
	require.NoError(t, err)
	return c
}

func TestCorpusRemembers(t *testing.T) {
	c := testCorpus(t)
	boot := []byte("Linux version 5.10.0-1-amd64 (x)")
	require.NoError(t, c.add(t.Context(), "amd64 k 1", layout.Kernel{Distro: "debian", Release: "bullseye"}, "amd64", boot, testBTF(5)))
	require.NoError(t, c.setAnswered("question"))
	file := filepath.Join(c.dir, "debian/bullseye/x86_64/5.10.0-1-amd64.btf.tar.xz")
	require.FileExists(t, file)

	again, err := openCorpus(c.dir, c.stateFile)
	require.NoError(t, err)
	require.True(t, again.has("amd64 k 1"))
	require.False(t, again.has("amd64 k 2"))
	require.True(t, again.answered("question"))
	var table bytes.Buffer
	require.Equal(t, 1, again.print(&table))
	require.Contains(t, table.String(), "debian/bullseye/x86_64")

	require.NoError(t, os.Truncate(file, 10))
	damaged, err := openCorpus(c.dir, c.stateFile)
	require.NoError(t, err)
	require.False(t, damaged.has("amd64 k 1"))
	require.False(t, damaged.answered("question"))

	require.ErrorContains(t, c.add(t.Context(), "k", layout.Kernel{Distro: "debian", Release: ".."}, "amd64", boot, nil), `release ".."`)
	require.NoError(t, os.WriteFile(c.stateFile, []byte("{"), 0o644))
	_, err = openCorpus(c.dir, c.stateFile)
	require.ErrorContains(t, err, "remove it to collect anew")
}

// A kernel that comes out of dpkg-deb as it stands: unpackImage takes ELF files.
const fakeDpkg = `t=$(mktemp -d); mkdir "$t/boot"
{ printf '\177ELF'; printf 'Linux version %s (x) ' "$(sed 's/^linux-[a-z]*-\(.*\):.*/\1/' "$2")"; cat "$BTF"; } >"$t/boot/vmlinuz-x"
tar -C "$t" -cf - boot; rm -r "$t"
`

func TestAddLines(t *testing.T) {
	s, downloads := fakeArchive(t)
	btf := filepath.Join(t.TempDir(), "btf")
	require.NoError(t, os.WriteFile(btf, testBTF(50), 0o644))
	t.Setenv("BTF", btf)
	fakePrograms(t, map[string]string{"dpkg-deb": fakeDpkg})
	// The archives that are there have to be of a release that is known.
	require.NoError(t, os.Rename(filepath.Join(s.dir, "apt", "good-amd64"), filepath.Join(s.dir, "apt", "sid-amd64")))
	progress := s.progress.(*bytes.Buffer)
	s.progress = &lineWriter{out: progress}

	lines := []line{
		// The mirror has lost 7.3.4, so both of the others are taken.
		{Arch: "amd64", Take: 2, Source: testSource(`^linux-binary-7.*-cloud-amd64$`, "sid")},
		{Arch: "amd64", Take: 1, Source: testSource(`^linux-image-6`, "sid")},
		{Arch: "amd64", Take: 1, Source: testSource(`^linux-image-4`, "sid")},
	}
	c := testCorpus(t)
	require.NoError(t, c.addLines(t.Context(), s, lines))
	for _, release := range []string{"7.2.12+deb13-cloud-amd64", "7.2.9+deb13-cloud-amd64", "6.18.15+deb13-cloud-amd64"} {
		require.FileExists(t, filepath.Join(c.dir, "debian/sid/x86_64", release+".btf.tar.xz"), progress.String())
	}
	require.Equal(t, 3, c.print(io.Discard))
	require.Contains(t, progress.String(), "404")
	require.Contains(t, progress.String(), "^linux-image-4: there are only 0 of 1")

	before := downloads()
	require.NoError(t, c.addLines(t.Context(), s, lines))
	require.Equal(t, before, downloads(), "the second time something was downloaded")

	// What is gone is fetched again, and nothing else.
	require.NoError(t, os.Remove(filepath.Join(c.dir, "debian/sid/x86_64/7.2.9+deb13-cloud-amd64.btf.tar.xz")))
	again, err := openCorpus(c.dir, c.stateFile)
	require.NoError(t, err)
	require.NoError(t, again.addLines(t.Context(), s, lines))
	require.Equal(t, before+2, downloads(), "7.3.4 in vain, and 7.2.9")
	require.Equal(t, 3, again.print(io.Discard))
}

func TestAddMatrix(t *testing.T) {
	s, _ := fakeArchive(t)
	put := func(dir string) {
		for name, content := range map[string]string{
			bootFile: "Linux version 6.18.15-" + filepath.Base(dir)[:7] + " (x)", btfFile: string(testBTF(5)),
		} {
			require.NoError(t, writeAtomically(filepath.Join(s.dir, dir, name), []byte(content)))
		}
	}
	from := source{Suites: []string{"trixie-backports"}, Package: testSource(`^linux-image-6\.18\.`).Package}
	require.NoError(t, os.Rename(filepath.Join(s.dir, "apt", "good-amd64"), filepath.Join(s.dir, "apt", "trixie-backports-amd64")))
	stock := kernel{Name: "stock", Arch: "amd64", Source: from}
	built := kernel{Name: "built", Arch: "amd64", Source: from, Build: "nobtf"}
	for _, k := range []kernel{stock, built} {
		got, err := s.fetch(t.Context(), k.Name, k.Arch, k.Source, copyDeb)
		require.NoError(t, err)
		put(got.Dir)
	}

	c := testCorpus(t)
	require.NoError(t, c.addMatrix(t.Context(), s, []kernel{stock, built}, false))
	require.FileExists(t, filepath.Join(c.dir, "debian/13/x86_64/6.18.15-linux-i.btf.tar.xz"))
	require.NoDirExists(t, filepath.Join(c.dir, "nodegadget"), "it was not built yet")
	require.Contains(t, s.progress.(*bytes.Buffer).String(), "leaving out built")

	source, ok := s.chosen("built", "amd64", from)
	require.True(t, ok)
	final, err := s.buildChoice(built, source)
	require.NoError(t, err)
	put(final.Dir)
	require.NoError(t, c.addMatrix(t.Context(), s, []kernel{stock, built}, false))
	require.FileExists(t, filepath.Join(c.dir, "nodegadget/1/x86_64/6.18.15-linux-i.btf.tar.xz"))
}

func TestCollectWantsEnough(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "kernels/corpus/state.json")
	list, err := parseCorpus(defaultCorpus)
	require.NoError(t, err)
	c, err := openCorpus(filepath.Join(dir, "corpus"), state)
	require.NoError(t, err)
	for _, l := range list.Kernels {
		require.NoError(t, c.setAnswered(l.question()))
	}
	opts := corpusOptions{storeOptions: storeOptions{Cache: dir, Kernels: []string{"5.10-nobtf"}}, AtLeast: 1}
	var table bytes.Buffer
	err = collect(t.Context(), opts, &table, io.Discard)
	require.ErrorContains(t, err, "collected 0 kernels, want at least 1")
	require.False(t, errors.Is(err, fs.ErrNotExist))
	opts.AtLeast = 0
	require.NoError(t, collect(t.Context(), opts, &table, io.Discard))
}
