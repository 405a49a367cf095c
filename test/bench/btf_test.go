// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
)

func TestBTFOptions(t *testing.T) {
	full, err := parseBTFFlags(nil, t.Output())
	require.NoError(t, err)
	require.Equal(t, defaultOut, full.Out)
	require.Equal(t, defaultReps, full.Reps)

	smoke, err := parseBTFFlags([]string{"--smoke"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, "-", smoke.Out, "a smoke run must not replace figures")
	require.Equal(t, 1, smoke.Reps)

	t.Setenv("NODEGADGET_CACHE", "/cache")
	require.Equal(t, "/cache/corpus", defaultCorpus())
}

func TestBTFMistakes(t *testing.T) {
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "btfgen"), nil, 0o700))
	misplaced := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(misplaced, "x"+layout.ArchiveSuffix), nil, 0o600))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"all"}, `btf takes no arguments, got "all"`},
		{[]string{"--reps", "0"}, "--reps must be positive"},
		{[]string{"--bin", t.TempDir()}, "run make build, or give --bin"},
		{[]string{"--bin", bin, "--corpus", "/missing/corpus"}, "there is no corpus in /missing/corpus: run make corpus"},
		{[]string{"--bin", bin, "--corpus", t.TempDir()}, "has no kernels: run make corpus"},
		{[]string{"--bin", bin, "--corpus", misplaced}, "want distro/release/arch/kernel"},
		{[]string{"--bin", bin, "--corpus", ""}, "give --corpus"},
	} {
		args := append([]string{"btf"}, test.args...)
		require.ErrorContains(t, run(t.Context(), args, t.Output(), t.Output()), test.want)
	}
	require.ErrorContains(t, run(t.Context(), []string{unpackTask}, t.Output(), t.Output()), "want a corpus, a directory and files")
}

// typesOf are raw BTF with a struct whose third member is at an offset, in bytes.
func typesOf(t *testing.T, offset btf.Bits) []byte {
	t.Helper()
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	builder, err := btf.NewBuilder([]btf.Type{
		&btf.Struct{Name: "task_struct", Size: 4096, Members: []btf.Member{
			{Name: "state", Type: number}, {Name: "pid", Type: number, Offset: 32}, {Name: "tgid", Type: number, Offset: 8 * offset},
		}},
		&btf.Struct{Name: "sock", Size: 64, Members: []btf.Member{{Name: "port", Type: &btf.Pointer{Target: number}, Offset: 64}}},
		&btf.Struct{Name: "opaque"},
		&btf.Enum{Name: "state", Size: 4, Values: []btf.EnumValue{{Name: "A", Value: 1}, {Name: "B", Value: 2}}},
		&btf.Typedef{Name: "array_t", Type: &btf.Array{Index: number, Type: number, Nelems: 3}},
	}, nil)
	require.NoError(t, err)
	raw, err := builder.Marshal(nil, &btf.MarshalOptions{Order: binary.LittleEndian})
	require.NoError(t, err)
	return raw
}

// corpus makes one of five kernels.
func corpus(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 5 {
		k := layout.Kernel{Distro: "debian", Release: "12", Arch: "arm64", Uname: fmt.Sprintf("6.1.0-%d-arm64", i)}
		require.NoError(t, hub.WriteEntry(t.Context(), dir, k, typesOf(t, btf.Bits(8+8*i))))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600))
	return dir
}

func TestCorpus(t *testing.T) {
	source := corpus(t)
	kernels, err := corpusKernels(source)
	require.NoError(t, err)
	require.Len(t, kernels, 5)
	require.Equal(t, "debian/12/arm64/6.1.0-0-arm64", kernels[0].String())

	dir := t.TempDir()
	b := btfBench{opts: btfOptions{Corpus: source}, dir: dir, kernels: some(kernels, 2), res: &btfResults{}}
	b.self, err = os.Executable()
	require.NoError(t, err)
	require.NoError(t, b.prepare(t.Context(), t.Output()))
	require.NotZero(t, b.res.Gadgets)
	require.Len(t, b.gadgets, b.res.Gadgets)
	require.Len(t, b.witnesses, 2)
	for i, offset := range map[int]btf.Bits{0: 8, 4: 40} {
		raw, err := os.ReadFile(b.path(rawDir, kernels[i].String()+layout.RawSuffix))
		require.NoError(t, err)
		require.Equal(t, typesOf(t, offset), raw)
		require.FileExists(t, b.path(archiveDir, kernels[i].File()))
		require.DirExists(t, filepath.Dir(b.path(oursDir, kernels[i].String())))
	}
	require.NoFileExists(t, b.path(archiveDir, kernels[1].File()))

	require.NoError(t, os.WriteFile(filepath.Join(source, kernels[4].File()), []byte("broken"), 0o600))
	b.dir = t.TempDir()
	require.ErrorContains(t, b.prepare(t.Context(), t.Output()), "6.1.0-4-arm64")
}

func TestSome(t *testing.T) {
	list := []int{0, 1, 2, 3, 4, 5, 6}
	require.Equal(t, []int{0, 3, 6}, some(list, 3))
	require.Equal(t, []int{0}, some(list, 1))
	require.Equal(t, list, some(list, 7))
	require.Equal(t, list, some(list, 8))
}

func TestRunTool(t *testing.T) {
	u, err := runTool(t.Context(), "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	require.NoError(t, err)
	require.NotZero(t, u.Wall)
	require.NotZero(t, u.Peak)
	_, err = runTool(t.Context(), "sh", "-c", "echo first; echo no ink >&2; exit 3")
	require.ErrorContains(t, err, "sh: exit status 3: no ink")
	_, err = runTool(t.Context(), "/missing/program")
	require.ErrorContains(t, err, "/missing/program")
	require.Equal(t, "v7.1.0", lastWord("/usr/sbin/bpftool v7.1.0"))
	require.Empty(t, lastWord(""))
}

func TestStructs(t *testing.T) {
	raw := typesOf(t, 16)
	structs, err := structsOf(raw)
	require.NoError(t, err)
	require.Len(t, structs, 2, "one has no members")
	other, err := structsOf(typesOf(t, 24))
	require.NoError(t, err)
	require.Equal(t, 1, distance(structs, other))
	require.Zero(t, distance(structs, structs))
	require.Zero(t, distance(structs, other[:1]), "not the same types")

	for cut := range len(raw) {
		_, _ = structsOf(raw[:cut]) // must not panic
	}
	for _, broken := range [][]byte{nil, raw[:23], raw[:40], append([]byte{0xeb, 0x9f}, raw[2:]...)} {
		_, err := structsOf(broken)
		require.ErrorIs(t, err, errBTF)
	}
}

func TestAge(t *testing.T) {
	raw := typesOf(t, 16)
	before := bytes.Clone(raw)
	aged, err := age(raw, 1, rand.New(rand.NewPCG(3, 4)))
	require.NoError(t, err)
	require.Equal(t, before, raw, "the original stays")
	one, err := structsOf(raw)
	require.NoError(t, err)
	other, err := structsOf(aged)
	require.NoError(t, err)
	require.Equal(t, 1, distance(one, other))
	_, err = btf.LoadSpecFromReader(bytes.NewReader(aged))
	require.NoError(t, err)
}

func TestGrow(t *testing.T) {
	var w bundle.Writer
	for i := range 4 {
		k := layout.Kernel{Distro: "debian", Release: "12", Arch: "arm64", Uname: fmt.Sprintf("6.1.0-%d-arm64", i)}
		// Two of four are the same.
		require.NoError(t, w.Add(k, typesOf(t, btf.Bits(8+8*max(i, 1)))))
	}
	data, err := w.Encode()
	require.NoError(t, err)
	small, err := bundle.New(data)
	require.NoError(t, err)
	b := btfBench{res: &btfResults{}}
	data, err = b.grow(small, 41)
	require.NoError(t, err)
	require.Equal(t, 41, b.res.Grown.Kernels)
	require.InDelta(t, 30, b.res.Grown.Different, 2)
	require.EqualValues(t, len(data), b.res.Grown.Bytes)
	require.Equal(t, 1, b.res.Grown.Structs)

	path := filepath.Join(t.TempDir(), "bundle")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	times, err := lookUp(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, 41, times.Count)
	require.Positive(t, times.Median)
	require.GreaterOrEqual(t, times.Slowest, times.Median)

	again, err := b.grow(small, 41)
	require.NoError(t, err)
	require.Equal(t, data, again, "the same every time")
}

func TestAgentCases(t *testing.T) {
	b := btfBench{opts: btfOptions{Bin: "bin"}, dir: "/d"}
	var names []string
	for _, c := range b.agentCases() {
		names = append(names, c.Name)
	}
	require.Equal(t, agentNames, names)
	for stderr, want := range map[string]string{
		"": "",
		"node n: kernel 6.1: BTF explicit from x, 3 facts agree (a, b)\nhook: x\n": "kernel 6.1: BTF explicit from x, 3 facts agree",
	} {
		require.Equal(t, want, typesSaid(stderr))
	}
}

// TestWatchAgents has scripts for agents.
func TestWatchAgents(t *testing.T) {
	serve := script(t, "echo level=INFO msg=serving >&2", ":")
	b := btfBench{opts: btfOptions{Smoke: true}, dir: t.TempDir(), res: &btfResults{}, agents: []agentCase{
		{"good", &tool{Ours: true, Sessions: 1, Agent: serve, Argv: script(t, "echo node n: types >&2; echo hook h: tp_btf >&2", ":")}},
		{"bad", &tool{Ours: true, Agent: script(t, "echo no kernel >&2; exit 1", ":")}},
	}}
	samples := b.watchAgents(t.Context(), 0)
	require.NotZero(t, samples[0].Memory.Now)
	require.NotZero(t, samples[0].Anonymous)
	require.Equal(t, "types", samples[0].Types)
	require.True(t, samples[1].Failed)
	require.Len(t, b.res.Failures, 1)
	require.Contains(t, b.res.Failures[0], "agent, bad: ")
	require.Contains(t, b.res.Failures[0], "no kernel")
}
