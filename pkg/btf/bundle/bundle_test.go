// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

func kernel(distro, release, arch, uname string) layout.Kernel {
	return layout.Kernel{Distro: distro, Release: release, Arch: arch, Uname: uname}
}

var (
	focal  = kernel("ubuntu", "20.04", "x86_64", "5.4.0-58-generic")
	bionic = kernel("ubuntu", "18.04", "x86_64", "5.4.0-58-generic")
	arm    = kernel("ubuntu", "20.04", "arm64", "5.4.0-58-generic")
	other  = kernel("debian", "10", "x86_64", "4.19.0-1-amd64")
)

// random bytes can't be packed, so that a bundle of them has several chunks.
func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func encode(tb testing.TB, contents map[layout.Kernel][]byte) []byte {
	tb.Helper()
	w := Writer{Objects: []Object{{"exec.o", tailor.Digest{1}}, {"open.o", tailor.Digest{2}}}}
	for k, raw := range contents {
		require.NoError(tb, w.Add(k, raw))
	}
	data, err := w.Encode()
	require.NoError(tb, err)
	return data
}

func TestEveryKernelGetsItsOwn(t *testing.T) {
	contents := map[layout.Kernel][]byte{
		focal: random(1, 100), bionic: random(1, 100), arm: random(2, 5000), other: random(3, chunkSize+1),
	}
	for i := range 300 {
		contents[kernel("amzn", "2", "x86_64", fmt.Sprintf("4.14.%d-1.amzn2.x86_64", i))] = random(uint64(i/3), 3000)
	}
	path := filepath.Join(t.TempDir(), "btf.bundle")
	require.NoError(t, os.WriteFile(path, encode(t, contents), 0o644))
	b, err := Open(path)
	require.NoError(t, err)
	require.Greater(t, len(b.index.chunks), 2)
	require.Len(t, b.Kernels(), len(contents))
	for k, want := range contents {
		got, err := b.Lookup(k)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.True(t, b.Same(focal, bionic))
	require.False(t, b.Same(focal, arm))
	require.False(t, b.Same(focal, kernel("a", "b", "arm64", "c")))
	require.Equal(t, []layout.Kernel{bionic, focal}, b.Find("x86_64", "5.4.0-58-generic"))
	require.Empty(t, b.Find("arm64", "4.14.1-1.amzn2.x86_64"))
	require.True(t, b.Serves(tailor.Digest{2}))
	require.False(t, b.Serves(tailor.Digest{3}))
	info := b.Info()
	require.Equal(t, 304, info.Kernels)
	require.Equal(t, 103, info.Contents)
	require.Equal(t, int64(300*3000+5200+chunkSize+1), info.Unshared)
	_, err = b.Lookup(kernel("ubuntu", "20.04", "x86_64", "5.4.0-59-generic"))
	require.True(t, errors.Is(err, ErrNotFound))
	require.EqualError(t, err, "BTF of ubuntu/20.04/x86_64/5.4.0-59-generic: not in the bundle")
	require.NoError(t, b.Close())
}

// TestBytesDoNotDependOnTheOrder: maps are walked in a random order.
func TestBytesDoNotDependOnTheOrder(t *testing.T) {
	contents := map[layout.Kernel][]byte{focal: random(1, 10), bionic: random(1, 10), arm: random(2, 20), other: random(3, 30)}
	want := encode(t, contents)
	for range 20 {
		require.Equal(t, want, encode(t, contents))
	}
	again := Writer{Objects: []Object{{"open.o", tailor.Digest{2}}, {"exec.o", tailor.Digest{1}}}}
	for _, k := range []layout.Kernel{other, arm, bionic, focal} {
		require.NoError(t, again.Add(k, random(9, 50)))
		require.NoError(t, again.Add(k, contents[k]))
	}
	got, err := again.Encode()
	require.NoError(t, err)
	require.Equal(t, want, got, "contents that were replaced are gone")
}

func TestEmptyBundle(t *testing.T) {
	data, err := new(Writer).Encode()
	require.NoError(t, err)
	b, err := New(data)
	require.NoError(t, err)
	require.Empty(t, b.Kernels())
	require.False(t, b.Serves(tailor.Digest{}))
}

func TestAddRefuses(t *testing.T) {
	var w Writer
	require.ErrorContains(t, w.Add(kernel("..", "1", "x86_64", "5"), []byte{1}), "distribution")
	require.ErrorContains(t, w.Add(focal, nil), "has 0 bytes, want 2 to")
}

// TestDamageIsDetected: whichever bit is changed, wherever the file is cut.
func TestDamageIsDetected(t *testing.T) {
	good := encode(t, map[layout.Kernel][]byte{focal: random(1, 100), arm: random(2, 100)})
	for i := range good {
		for _, bit := range []byte{1, 128} {
			bad := bytes.Clone(good)
			bad[i] ^= bit
			_, err := New(bad)
			require.Error(t, err, i)
			require.NotContains(t, err.Error(), "\n")
		}
		_, err := New(good[:i])
		require.Error(t, err, i)
	}
	_, err := New(append(bytes.Clone(good), 0))
	require.ErrorContains(t, err, "damaged or cut short")
	path := filepath.Join(t.TempDir(), "cut")
	require.NoError(t, os.WriteFile(path, good[:len(good)-1], 0o644))
	_, err = Open(path)
	require.EqualError(t, err, "BTF bundle "+path+": damaged or cut short: its checksum is wrong; make it or copy it again")
}

func TestOtherVersionIsNamed(t *testing.T) {
	bad := encode(t, nil)
	binary.LittleEndian.PutUint32(bad[len(magic):], 2)
	_, err := New(bad)
	require.ErrorContains(t, err, "bundle of version 2, this reads version 1")
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	for _, path := range []string{dir, empty, "/dev/zero"} {
		_, err := Open(path)
		require.ErrorContains(t, err, "want a file of 1 to")
	}
	_, err := Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, bytes.Repeat([]byte("text "), 100), 0o644))
	_, err = Open(text)
	require.ErrorContains(t, err, "not a bundle: want a file made by btfgen build")
}

// FuzzNew gets bundles with a right checksum and anything in them.
func FuzzNew(f *testing.F) {
	f.Add(encode(f, map[layout.Kernel][]byte{focal: random(1, 100), arm: random(2, 100), bionic: random(1, 100)})[headerSize:], uint32(200))
	f.Add([]byte{}, uint32(0))
	f.Fuzz(func(t *testing.T, body []byte, length uint32) {
		open(t, seal(body, length))
		// Where the index is no zstd frame, most of the reader isn't reached.
		if x, err := parseIndex(body, headerSize, headerSize+int(length%(1<<20))); err == nil {
			require.Less(t, len(x.kernels), len(body)+1)
		}
	})
}

func seal(body []byte, length uint32) []byte {
	data := assemble(body, nil)
	binary.LittleEndian.PutUint32(data[len(magic)+4:], length)
	return data
}

func open(t *testing.T, data []byte) {
	b, err := New(data)
	if err != nil {
		require.Nil(t, b)
		return
	}
	for _, k := range b.Kernels() {
		require.NoError(t, k.Validate())
		if raw, err := b.Lookup(k); err == nil {
			require.NotEmpty(t, raw)
		}
	}
}

func TestChecksumIsOfTheBody(t *testing.T) {
	data := encode(t, nil)
	sum := sha256.Sum256(data[headerSize:])
	require.Equal(t, sum[:], data[headerSize-sha256.Size:headerSize])
}

func TestNaturalOrder(t *testing.T) {
	for _, pair := range [][2]string{{"5.4.0", "5.10.0"}, {"5.4", "5.4.1"}, {"5.4.0-9-x", "5.4.0-10-a"}, {"", "a"}} {
		require.Negative(t, naturally(pair[0], pair[1]))
		require.Positive(t, naturally(pair[1], pair[0]))
		require.Zero(t, naturally(pair[0], pair[0]))
	}
}

// BenchmarkLookup is of a bundle the size of BTFHub's, opened each time.
func BenchmarkLookup(b *testing.B) {
	contents := make(map[layout.Kernel][]byte)
	for i := range 4000 {
		raw := random(7, 2600)
		copy(raw, random(uint64(i), 100))
		contents[kernel("ubuntu", "20.04", "x86_64", fmt.Sprintf("5.4.%d-%d-generic", i/100, i%100))] = raw
	}
	path := filepath.Join(b.TempDir(), "btf.bundle")
	require.NoError(b, os.WriteFile(path, encode(b, contents), 0o644))
	last := kernel("ubuntu", "20.04", "x86_64", "5.4.39-99-generic")
	b.ReportAllocs()
	for b.Loop() {
		bundle, err := Open(path)
		require.NoError(b, err)
		_, err = bundle.Lookup(last)
		require.NoError(b, err)
		require.NoError(b, bundle.Close())
	}
}
