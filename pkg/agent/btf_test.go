// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/witness"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with testdata/<name>; -update writes that.
func golden(tb testing.TB, name, text string) {
	tb.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(tb, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(tb, err, "run go test -update")
	require.Equal(tb, string(want), text, "go test -update accepts it")
}

// emptyBTF has no types at all.
func emptyBTF(tb testing.TB) []byte {
	tb.Helper()
	raw, err := new(btf.Builder).Marshal(nil, nil)
	require.NoError(tb, err)
	return raw
}

// withoutTypes is an agent on a node where no types are found.
func withoutTypes(tb testing.TB) (*Agent, *bytes.Buffer) {
	tb.Helper()
	var log bytes.Buffer
	a, err := Prepare(Setup{BTF: tb.TempDir(), Node: "worker-1", Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(tb, err)
	tb.Cleanup(a.Close)
	return a, &log
}

// TestNodeWithoutTypesIsServed: what needs types says that there are none.
func TestNodeWithoutTypesIsServed(t *testing.T) {
	a, log := withoutTypes(t)
	require.NoError(t, a.Announce(t.Context()))
	require.Contains(t, log.String(), "no BTF for kernel ")
	client := dial(t, a)
	info, err := client.Info(t.Context(), &wire.InfoRequest{})
	require.NoError(t, err)
	release, err := kernel.Release()
	require.NoError(t, err)
	require.Equal(t, release, info.GetNode().GetKernel())
	require.Contains(t, info.GetNode().GetBtf(), "kernel "+release+": no BTF (tried ")
	_, err = start(t, client, &wire.Start{Gadget: "trace_open"})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.ErrorContains(t, err, "no BTF for kernel "+release)
	require.ErrorContains(t, err, "name this kernel's BTF with --btf")
}

// TestGadgetThatAsksForNoTypesRunsWithoutThem, as far as types are concerned.
func TestGadgetThatAsksForNoTypesRunsWithoutThem(t *testing.T) {
	a, _ := withoutTypes(t)
	content := kernel.EncodeELF(emptyBTF(t), Arch())
	binary.LittleEndian.PutUint16(content[18:], uint16(elf.EM_BPF))
	plain := &gadget.Object{Spec: gadget.Spec{Name: "trace_plain"}, Content: content}
	types, err := a.kernelTypes(t.Context(), plain)
	require.NoError(t, err)
	require.Nil(t, types.Spec)
	require.Equal(t, kernel.None, types.Source.Kind)

	object, err := a.opts.Gadgets.Object("trace_open")
	require.NoError(t, err)
	_, err = a.kernelTypes(t.Context(), object)
	var notFound *kernel.NotFoundError
	require.ErrorAs(t, err, &notFound)
}

// TestWrongTypesKeepTheAgentFromServing: who names a file learns at once.
func TestWrongTypesKeepTheAgentFromServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.btf")
	require.NoError(t, os.WriteFile(path, emptyBTF(t), 0o600))
	a, err := Prepare(Setup{BTF: path})
	require.NoError(t, err)
	defer a.Close()
	require.ErrorContains(t, a.Announce(t.Context()), "BTF "+path+" can't be proven to be this kernel's (")

	_, err = start(t, dial(t, a), &wire.Start{Gadget: "trace_open"})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))

	for _, setup := range []Setup{{BTF: "/nonexistent"}, {BTFBundle: "/nonexistent"}, {BTFService: "ftp://x"}, {HostRoot: "/nonexistent"}} {
		_, err := Prepare(setup)
		require.Error(t, err)
		_, err = Status(t.Context(), setup)
		require.Error(t, err)
		_, err = InstallBTF(t.Context(), setup, Installation{})
		require.Error(t, err)
	}
}

var ubuntu = kernel.Identity{ID: "ubuntu", VersionID: "20.04", PrettyName: "Ubuntu 20.04.6 LTS", Arch: "x86_64", Release: "5.4.0-42-generic"}

func TestStatusText(t *testing.T) {
	notFound := &kernel.NotFoundError{
		Release: ubuntu.Release, Arch: ubuntu.Arch, Distro: ubuntu.String(), Package: "linux-image-5.4.0-42-generic-dbgsym",
	}
	entry := layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: ubuntu.Release}
	tried := []string{"/sys/kernel/btf/vmlinux: not there", "/boot/vmlinux-5.4.0-42-generic: ELF file without a .BTF section"}
	snapshot := UnableGadget{"snapshot_process", "needs in-kernel BTF, without which the kernel has no hook for iter"}
	for _, test := range []struct {
		name   string
		status BTFStatus
	}{
		{"in-kernel", BTFStatus{
			Kernel: ubuntu, InKernel: true, Source: kernel.Source{Kind: kernel.InKernel, Path: "/sys/kernel/btf/vmlinux", Release: ubuntu.Release},
		}},
		{"bundle", BTFStatus{
			Kernel: ubuntu,
			Source: kernel.Source{
				Kind: kernel.Bundle, Path: "/usr/share/nodegadget/btf.bundle", Entry: entry, Release: ubuntu.Release, Tried: tried,
				Proof: "2 facts agree (process id, thread name)",
				Testimony: &witness.Testimony{
					Agreed:    []witness.Fact{{Name: "process id", Got: "4711", Want: "4711"}, {Name: "thread name", Got: `"agent"`, Want: `"agent"`}},
					Unchecked: []string{"user id", "socket's port"},
				},
			},
			Unable: []UnableGadget{snapshot},
		}},
		{"none", BTFStatus{
			Kernel: ubuntu, Source: kernel.Source{Kind: kernel.None, Release: ubuntu.Release, Tried: tried},
			Error: notFound.Summary(), Remedies: notFound.Remedies(), Unable: []UnableGadget{snapshot, {"trace_open", "no BTF"}},
		}},
		{"refused", BTFStatus{
			Kernel: ubuntu, Source: kernel.Source{Kind: kernel.None, Release: ubuntu.Release, Tried: []string{"not shown again"}},
			Error: "BTF /x isn't this kernel's (5.4.0-42-generic): parent process is 0, want 4711; name the BTF of exactly this kernel",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var text, encoded bytes.Buffer
			require.NoError(t, test.status.WriteText(&text))
			golden(t, "btf-status-"+test.name+".txt", text.String())
			require.NoError(t, test.status.WriteJSON(&encoded))
			golden(t, "btf-status-"+test.name+".json", encoded.String())
		})
	}
}

func TestStatusWithoutTypes(t *testing.T) {
	got, err := Status(t.Context(), Setup{BTF: t.TempDir()})
	require.NoError(t, err)
	require.Equal(t, kernel.None, got.Source.Kind)
	require.Len(t, got.Remedies, 3)
	require.Len(t, got.Unable, len(catalog(t).Names()), "none can run")
}

// TestInstall writes this kernel's own types, which it needn't.
func TestInstall(t *testing.T) {
	const own = "/sys/kernel/btf/vmlinux"
	if os.Geteuid() != 0 {
		t.Skip("checking BTF needs root")
	}
	if _, err := os.Stat(own); err != nil {
		t.Skipf("this kernel carries no BTF: %v", err)
	}
	release, err := kernel.Release()
	require.NoError(t, err)
	root := t.TempDir()
	setup := Setup{BTF: own}
	said, err := InstallBTF(t.Context(), setup, Installation{Root: root})
	require.NoError(t, err)
	require.Equal(t, "nothing to install: kernel "+release+" carries its own BTF, which every tool finds", said)
	require.NoDirExists(t, filepath.Join(root, "boot"))

	path := filepath.Join(root, "boot/vmlinux-"+release)
	said, err = InstallBTF(t.Context(), setup, Installation{Root: root, Force: true})
	require.NoError(t, err)
	require.Contains(t, said, "installed "+path+" (")
	spec, err := btf.LoadSpec(path)
	require.NoError(t, err)
	var task *btf.Struct
	require.NoError(t, spec.TypeByName("task_struct", &task))
}

// TestInstallationStaysInItsRoot and leaves alone what it finds.
func TestInstallationStaysInItsRoot(t *testing.T) {
	const name = "boot/vmlinux-5.4.0"
	content := []byte("content")
	outside := t.TempDir()
	for _, test := range []struct {
		name  string
		make  func(tb testing.TB, root string)
		force bool
		want  string
		wrote bool
	}{
		{"empty root", func(testing.TB, string) {}, false, "", true},
		{"same file", file(name, "content"), false, "", false},
		{"other file", file(name, "CONTENT"), false, "is there already and isn't what would be installed", false},
		{"other file, by force", file(name, "CONTENT"), true, "", true},
		{"link", link(name, outside+"/x"), false, "is there already", false},
		{"link, by force", link(name, outside+"/x"), true, "", true},
		{"directory that leads out", link("boot", outside), true, "escapes", false},
		{"file for a directory", file("boot", ""), false, "file exists", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			test.make(t, root)
			wrote, err := Installation{Root: root, Force: test.force}.write(name, content)
			entries, readErr := os.ReadDir(outside)
			require.NoError(t, readErr)
			require.Empty(t, entries)
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.wrote, wrote)
			got, err := os.ReadFile(filepath.Join(root, name))
			require.NoError(t, err)
			require.Equal(t, content, got)
			entries, err = os.ReadDir(filepath.Join(root, "boot"))
			require.NoError(t, err)
			require.Len(t, entries, 1, "no temporary file is left")
		})
	}
	_, err := Installation{Root: t.TempDir()}.write("boot/x/vmlinux-1", content)
	require.ErrorContains(t, err, "can't be part of a file's name")
	_, err = Installation{Root: "/nonexistent"}.write(name, content)
	require.Error(t, err)
}

func file(name, content string) func(testing.TB, string) {
	return func(tb testing.TB, root string) {
		require.NoError(tb, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(tb, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
}

func link(name, target string) func(testing.TB, string) {
	return func(tb testing.TB, root string) {
		require.NoError(tb, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(tb, os.Symlink(target, filepath.Join(root, name)))
	}
}
