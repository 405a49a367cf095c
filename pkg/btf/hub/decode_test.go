// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDecoderReads(t *testing.T) {
	raw := sampleBTF(t, "task_struct")
	d := &decoder{maxRaw: 1 << 20}
	for name, content := range map[string][]byte{
		"ours":           packed(t, raw),
		"with a folder":  compress(t, "xz", makeTar(t, member{name: "./", flag: tar.TypeDir}, member{name: "./5.4.0.btf", content: raw})),
		"of git":         compress(t, "xz", makeTar(t, member{flag: tar.TypeXGlobalHeader}, member{name: "5.4.0.btf", content: raw})),
		"two xz streams": append(compress(t, "xz", makeTar(t, member{name: "a", content: raw})[:512]), compress(t, "xz", makeTar(t, member{name: "a", content: raw})[512:])...),
	} {
		got, err := d.unpack(t.Context(), content)
		require.NoError(t, err, name)
		require.Equal(t, raw, got, name)
	}
}

func TestDecoderIsForManyGoroutines(t *testing.T) {
	d := &decoder{maxRaw: 1 << 20}
	a, b := sampleBTF(t, "a"), sampleBTF(t, "b")
	files := [][]byte{packed(t, a), packed(t, b), packed(t, a)[:100]}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for i := range 60 {
				got, err := d.unpack(t.Context(), files[i%3])
				switch i % 3 {
				case 0:
					assert.Equal(t, a, got)
				case 1:
					assert.Equal(t, b, got)
				case 2:
					assert.Error(t, err)
				}
			}
		})
	}
	running.Wait()
}

func TestDecoderEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := (&decoder{maxRaw: 1 << 20}).unpack(ctx, packed(t, sampleBTF(t, "a")))
	require.ErrorIs(t, err, context.Canceled)
	var content *ContentError
	require.False(t, errors.As(err, &content), "it isn't the content's fault")
}

func TestDecodesTheRunningKernel(t *testing.T) {
	raw := realBTF(t)
	got, err := (&decoder{maxRaw: DefaultMaxRaw}).unpack(t.Context(), packed(t, raw))
	require.NoError(t, err)
	require.True(t, bytes.Equal(raw, got))
}

func TestCheckBTF(t *testing.T) {
	little := sampleBTF(t, "task_struct")
	builder, err := btf.NewBuilder([]btf.Type{&btf.Int{Name: "int", Size: 4}}, nil)
	require.NoError(t, err)
	big, err := builder.Marshal(nil, &btf.MarshalOptions{Order: binary.BigEndian})
	require.NoError(t, err)
	require.NoError(t, checkBTF(little))
	require.NoError(t, checkBTF(big))

	set := func(at int, value uint32) []byte {
		b := bytes.Clone(little)
		binary.LittleEndian.PutUint32(b[at:], value)
		return b
	}
	last := bytes.Clone(little)
	last[len(last)-1] = 'x'
	for _, test := range []struct {
		raw  []byte
		want string
	}{
		{nil, "0 bytes, want at least 24"},
		{little[:23], "23 bytes"},
		{set(0, 0x0001eb90), "begins with 0xeb90"},
		{set(0, 0x0002eb9f), "version 2"},
		{set(4, 20), "header of 20 bytes"},
		{set(4, 1<<31), "header of 2147483648 bytes"},
		{set(8, 2), "want multiples of 4"},
		{set(12, 1<<32-4), "cut off"},
		{set(16, 0), "overlap"},
		{set(16, 1<<32-1), "cut off"},
		{set(20, 0), "without strings"},
		{set(20, 1<<32-1), "cut off"},
		{last, "begin and end with a zero byte"},
	} {
		err := checkBTF(test.raw)
		require.ErrorContains(t, err, test.want)
		var content *ContentError
		require.ErrorAs(t, err, &content)
	}
}

func TestFindBTF(t *testing.T) {
	raw, other := sampleBTF(t, "a_struct_with_a_long_name"), sampleBTF(t, "b")
	code := []byte("\x9f\xeb\x01\x00\x18\x00\x00\x00 code that parses BTF")
	image := bytes.Join([][]byte{code, other, code, raw, code, other}, []byte("\x00\x9f\xeb"))
	require.Equal(t, raw, findBTF(image))
	require.Nil(t, findBTF(code))
	require.Nil(t, findBTF(raw[:len(raw)-1]))
	require.Nil(t, findBTF(nil))

	builder, err := btf.NewBuilder([]btf.Type{&btf.Int{Name: "int", Size: 4}}, nil)
	require.NoError(t, err)
	big, err := builder.Marshal(nil, &btf.MarshalOptions{Order: binary.BigEndian})
	require.NoError(t, err)
	require.Equal(t, big, findBTF(append([]byte("MIPS"), big...)))
}

func FuzzDecode(f *testing.F) {
	good := packed(f, sampleBTF(f, "task_struct"))
	f.Add(good)
	f.Add(good[:len(good)-20])
	f.Add(withDictionary(f, good, 40))
	f.Add(compress(f, "xz", makeTar(f, member{name: "../a", content: []byte("x")}, member{name: "b", flag: tar.TypeLink, link: "a"})))
	d := &decoder{maxRaw: 1 << 20}
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, err := d.unpack(t.Context(), b)
		if err != nil {
			require.Nil(t, raw)
			var content *ContentError
			require.ErrorAs(t, err, &content)
			return
		}
		require.NoError(t, checkBTF(raw))
		require.LessOrEqual(t, len(raw), 1<<20)
	})
}

// FuzzTar is about what stands in the tar, which FuzzDecode seldom gets to.
func FuzzTar(f *testing.F) {
	raw := sampleBTF(f, "task_struct")
	f.Add(makeTar(f, member{name: "5.4.0.btf", content: raw}))
	f.Add(makeTar(f, member{name: "a", content: raw}, member{name: "b", content: raw}))
	f.Add(makeTar(f, member{name: "a", flag: tar.TypeSymlink, link: "/etc/passwd"}))
	d := &decoder{maxRaw: 1 << 20}
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, err := d.single(bytes.NewReader(b))
		require.Equal(t, err != nil, raw == nil)
		require.LessOrEqual(t, len(raw), 1<<20)
	})
}

func FuzzFindBTF(f *testing.F) {
	raw := sampleBTF(f, "task_struct")
	f.Add(raw)
	f.Add(append([]byte("\x9f\xeb\x01\x00\x20\x00\x00\x00"), raw...))
	f.Fuzz(func(t *testing.T, image []byte) {
		if raw := findBTF(image); raw != nil {
			require.NoError(t, checkBTF(raw))
		}
	})
}

// BenchmarkDecode decodes the running kernel's types, as xz -6 packs them less
// some percent.
func BenchmarkDecode(b *testing.B) {
	raw := realBTF(b)
	file := packed(b, raw)
	d := &decoder{maxRaw: DefaultMaxRaw}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := d.unpack(b.Context(), file)
		require.NoError(b, err)
	}
}
