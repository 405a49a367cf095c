// SPDX-License-Identifier: Apache-2.0

package btfgen

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
)

// result is what a run of the program left.
type result struct {
	status   int
	out, err string
}

func btfgen(t *testing.T, args ...string) result {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var out, err bytes.Buffer
	status := run(t.Context(), args, streams{strings.NewReader(""), &out, &err})
	return result{status, out.String(), err.String()}
}

// objects writes two gadgets to files.
func objects(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, gadgets.Objects()))
	return []string{filepath.Join(dir, "trace_exec/gadget.x86_64.o"), filepath.Join(dir, "trace_signal/gadget.x86_64.o")}
}

func fullBTF(t *testing.T) []byte {
	t.Helper()
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	builder, err := btf.NewBuilder([]btf.Type{
		&btf.Struct{Name: "task_struct", Size: 64, Members: []btf.Member{{Name: "x", Type: number}, {Name: "tgid", Type: number, Offset: 64}}},
		&btf.Struct{Name: "unused", Size: 4, Members: []btf.Member{{Name: "y", Type: number}}},
	}, nil)
	require.NoError(t, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(t, err)
	return raw
}

func TestTailor(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "full.btf"), filepath.Join(dir, "small.btf")
	require.NoError(t, os.WriteFile(from, fullBTF(t), 0o644))
	got := btfgen(t, append([]string{"tailor", "-v", "--btf", from, "--out", to}, objects(t)...)...)
	require.Equal(t, exitDone, got.status, got.err)
	require.Contains(t, got.err, "gadget.x86_64.o: 42 relocations, digest ")
	require.Contains(t, got.err, "not among this kernel's types, maybe a module's: ")
	require.Contains(t, got.err, "nsproxy")
	spec, err := btf.LoadSpec(to)
	require.NoError(t, err)
	_, err = spec.AnyTypeByName("task_struct")
	require.NoError(t, err)
	_, err = spec.AnyTypeByName("unused")
	require.ErrorIs(t, err, btf.ErrNotFound)
}

// packed makes a .btf.tar.xz with what is given.
func packed(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	require.NoError(t, err)
	archive := tar.NewWriter(w)
	for name, content := range files {
		require.NoError(t, archive.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}))
		_, err := archive.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	require.NoError(t, w.Close())
	return out.Bytes()
}

// brokenArchive has two good kernels and ten entries that can't be used.
func brokenArchive(t *testing.T) (dir string, broken []string) {
	t.Helper()
	dir = t.TempDir()
	good := fullBTF(t)
	for _, uname := range []string{"5.4.0-1-generic", "5.4.0-2-generic"} {
		require.NoError(t, hub.WriteEntry(t.Context(), dir, layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: uname}, good))
	}
	put := func(name string, content []byte) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o644))
		broken = append(broken, name)
	}
	whole := packed(t, map[string][]byte{"k.btf": good})
	put("ubuntu/20.04/x86_64/empty.btf.tar.xz", nil)
	put("ubuntu/20.04/x86_64/text.btf.tar.xz", []byte("no archive at all"))
	put("ubuntu/20.04/x86_64/cut.btf.tar.xz", whole[:len(whole)/2])
	put("ubuntu/20.04/x86_64/flipped.btf.tar.xz", append(append(bytes.Clone(whole[:60]), whole[60]^255), whole[61:]...))
	put("ubuntu/20.04/x86_64/nobtf.btf.tar.xz", packed(t, map[string][]byte{"k.btf": bytes.Repeat([]byte("text "), 50)}))
	put("ubuntu/20.04/x86_64/cutbtf.btf.tar.xz", packed(t, map[string][]byte{"k.btf": good[:len(good)-9]}))
	put("ubuntu/20.04/x86_64/two.btf.tar.xz", packed(t, map[string][]byte{"a.btf": good, "b.btf": good}))
	put("ubuntu/20.04/x86_64/bomb.btf.tar.xz", packed(t, map[string][]byte{"k.btf": make([]byte, 64<<20)}))
	put("ubuntu/misplaced.btf.tar.xz", whole)
	link := "ubuntu/20.04/x86_64/outside.btf.tar.xz"
	require.NoError(t, os.Symlink("/etc/hostname", filepath.Join(dir, link)))
	return dir, append(broken, link)
}

// TestBrokenEntriesDoNotStopABuild: one bad tarball must not cost all the others.
func TestBrokenEntriesDoNotStopABuild(t *testing.T) {
	dir, broken := brokenArchive(t)
	out, report := filepath.Join(t.TempDir(), "btf.bundle"), filepath.Join(t.TempDir(), "report.json")
	args := append([]string{"build", "--archive", dir, "--out", out, "--report", report}, objects(t)...)
	got := btfgen(t, args...)
	require.Equal(t, exitSkipped, got.status, got.err)
	require.Len(t, broken, 10)
	for _, name := range broken {
		require.Contains(t, got.err, "skipped: "+name)
	}
	require.Contains(t, got.err, "btfgen: 10 entries were skipped\n")
	require.Contains(t, got.out, "2 kernels, 1 different")
	b, err := bundle.Open(out)
	require.NoError(t, err)
	require.Len(t, b.Kernels(), 2)
	require.NoError(t, b.Close())

	var told struct {
		Entries int
		Skipped []hub.Problem
	}
	text, err := os.ReadFile(report)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &told))
	require.Equal(t, 2, told.Entries)
	require.Len(t, told.Skipped, 10)

	require.NoError(t, os.Remove(out))
	got = btfgen(t, append(args, "--strict")...)
	require.Equal(t, exitFailed, got.status)
	require.Contains(t, got.err, "10 entries can't be used, and --strict was given: nothing was written")
	require.NoFileExists(t, out)
}

func TestCollectThenBuildThenInspect(t *testing.T) {
	dir := t.TempDir()
	raw, archive, out := filepath.Join(dir, "vmlinux.btf"), filepath.Join(dir, "archive"), filepath.Join(dir, "btf.bundle")
	require.NoError(t, os.WriteFile(raw, fullBTF(t), 0o644))
	got := btfgen(t, "collect", "--out", archive, "--distro", "debian", "--release", "10", "--arch", "amd64", "--uname", "4.19.0-1-amd64", raw)
	require.Equal(t, exitDone, got.status, got.err)
	require.Contains(t, got.out, "debian/10/x86_64/4.19.0-1-amd64: ")
	got = btfgen(t, "collect", "--out", archive, "--distro", "debian", "--release", "10", "--arch", "amd64", "--uname", "4.19.0-1-amd64", raw)
	require.Contains(t, got.out, "already there")

	got = btfgen(t, append([]string{"build", "--archive", archive, "--out", out, "--arch", "x86_64"}, objects(t)...)...)
	require.Equal(t, exitDone, got.status, got.err)
	got = btfgen(t, "inspect", out)
	require.Equal(t, exitDone, got.status, got.err)
	require.Regexp(t, `debian +10 +x86_64 +1 +1 +`, got.out)
	require.Regexp(t, `trace_exec/gadget.x86_64.o +[0-9a-f]{16}`, got.out)
	got = btfgen(t, "inspect", out, "-o", "json")
	require.True(t, json.Valid([]byte(got.out)))
	small := filepath.Join(dir, "small.btf")
	got = btfgen(t, "inspect", out, "--kernel", "4.19.0-1-amd64", "--extract", small)
	require.Equal(t, exitDone, got.status, got.err)
	require.Regexp(t, `debian/10/x86_64/4.19.0-1-amd64 +\d+ +0 others`, got.out)
	_, err := btf.LoadSpec(small)
	require.NoError(t, err)
}

func TestMistakes(t *testing.T) {
	dir, text := t.TempDir(), filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("text"), 0o644))
	some := objects(t)[0]
	for _, test := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no flag", []string{"tailor", "x.o"}, exitUsage, "--btf is missing"},
		{"unknown flag", []string{"build", "--nope"}, exitUsage, "unknown flag: --nope: see btfgen build --help"},
		{"no object", []string{"build", "--archive", dir, "--out", "x"}, exitUsage, "requires at least 1 arg"},
		{"object that isn't there", []string{"tailor", "--btf", text, "--out", "x", "none.o"}, exitFailed, "reading object: open none.o"},
		{"object that is none", []string{"tailor", "--btf", text, "--out", "x", text}, exitFailed, "want an eBPF object"},
		{"BTF that is none", []string{"tailor", "--btf", text, "--out", "x", some}, exitFailed, "4 bytes are too short for BTF"},
		{"ELF without BTF", []string{"tailor", "--btf", "/proc/self/exe", "--out", "x", some}, exitFailed, "no .BTF section"},
		{"empty archive", []string{"build", "--archive", dir, "--out", "x", some}, exitFailed, "no kernel of"},
		{"archive that isn't there", []string{"build", "--archive", dir + "/none", "--out", "x", some}, exitFailed, "none"},
		{"bundle that is none", []string{"inspect", text}, exitFailed, "not a bundle"},
		{"output of unknown form", []string{"inspect", text, "-o", "xml"}, exitUsage, "want table or json"},
		{"extract what", []string{"inspect", text, "--extract", "x"}, exitUsage, "give --kernel too"},
		{"nothing collected", []string{"collect", "--out", dir, text}, exitFailed, "1 of 1 files can't be used"},
		{"unknown architecture", []string{"collect", "--out", dir, "--arch", "mips", text}, exitUsage, "want x86_64"},
		{"unknown command", []string{"frobnicate"}, exitFailed, "unknown command"},
		{"serve nothing", []string{"serve"}, exitUsage, "--archive is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := btfgen(t, test.args...)
			require.Equal(t, test.status, got.status, got.err)
			require.Contains(t, got.err, "btfgen: ")
			require.Contains(t, got.err, test.want)
		})
	}
}

// TestServe starts the real server and ends it as a signal would.
func TestServe(t *testing.T) {
	dir, _ := brokenArchive(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, logged := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--archive", dir, "--listen", "127.0.0.1:0"}, streams{strings.NewReader(""), io.Discard, logged})
		logged.Close()
	}()
	address := regexp.MustCompile(`address=(\S+)`)
	buffer := make([]byte, 4096)
	n, err := log.Read(buffer)
	require.NoError(t, err)
	go io.Copy(io.Discard, log)
	found := address.FindSubmatch(buffer[:n])
	require.NotNil(t, found, string(buffer[:n]))
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + string(found[1]) + "/v1/kernels?kernel=5.4.0-2-generic")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Contains(t, string(body), `"5.4.0-2-generic"`)
	client.CloseIdleConnections()
	cancel()
	require.Equal(t, exitDone, <-done)
}
