// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/btf/witness"
)

const release = "5.4.0-42-generic"

// This kernel's thread id stands at offset right; other kernels have it elsewhere.
const (
	right = 64
	wrong = 128
)

// rawBTF is a kernel whose struct task_struct has its pid at an offset in bytes.
func rawBTF(tb testing.TB, offset btf.Bits) []byte {
	tb.Helper()
	return build(tb, &btf.Struct{Name: "task_struct", Size: 4096, Members: []btf.Member{
		{Name: "pid", Type: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Offset: offset * 8},
	}})
}

func build(tb testing.TB, types ...btf.Type) []byte {
	tb.Helper()
	builder, err := btf.NewBuilder(types, nil)
	require.NoError(tb, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(tb, err)
	return raw
}

// fakeWitness testifies against types whose pid isn't at the right place.
func fakeWitness(_ context.Context, spec *btf.Spec) (witness.Testimony, error) {
	var task *btf.Struct
	if err := spec.TypeByName("task_struct", &task); err != nil {
		return witness.Testimony{Unchecked: []string{"thread id"}}, nil
	}
	if task.Members[0].Offset != right*8 {
		return witness.Testimony{Disagreed: []witness.Fact{{Name: "thread id", Got: "0", Want: "4711"}}}, nil
	}
	fact := witness.Fact{Name: "thread id", Got: "4711", Want: "4711"}
	return witness.Testimony{Agreed: slices.Repeat([]witness.Fact{fact}, witness.MinFacts)}, nil
}

// node is a machine: the files of the host and those of the kernel.
type node struct {
	tb   testing.TB
	root string
	places
}

func newNode(tb testing.TB) *node {
	dir := tb.TempDir()
	n := &node{tb: tb, root: filepath.Join(dir, "host"), places: places{
		inKernel: filepath.Join(dir, "sys/btf/vmlinux"), notes: filepath.Join(dir, "sys/notes"), bundle: filepath.Join(dir, "share/btf.bundle"),
	}}
	content, err := os.ReadFile("testdata/os-release/ubuntu-20.04")
	require.NoError(tb, err)
	put(tb, n.root, "etc/os-release", content)
	return n
}

func (n *node) open(opts Options) *Chooser {
	n.tb.Helper()
	opts.Root, opts.Release = n.root, release
	c, err := open(opts, n.places)
	require.NoError(n.tb, err)
	n.tb.Cleanup(c.Close)
	c.check = fakeWitness
	return c
}

// put writes a file below root and returns its path.
func put(tb testing.TB, root, name string, content []byte) string {
	tb.Helper()
	path := filepath.Join(root, name)
	require.NoError(tb, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(tb, os.WriteFile(path, content, 0o644))
	return path
}

func arch(tb testing.TB) string {
	tb.Helper()
	arch, err := layout.Arch(runtime.GOARCH)
	require.NoError(tb, err)
	return arch
}

func requireRight(tb testing.TB, types Types) {
	tb.Helper()
	require.NotNil(tb, types.Spec)
	testimony, err := fakeWitness(tb.Context(), types.Spec)
	require.NoError(tb, err)
	require.Len(tb, testimony.Agreed, witness.MinFacts)
}

func TestExplicitTypesComeFirst(t *testing.T) {
	n := newNode(t)
	put(t, filepath.Dir(n.inKernel), "vmlinux", rawBTF(t, wrong))
	put(t, n.root, "boot/vmlinux-"+release, elfWith(t, rawBTF(t, wrong), nil))
	files, hub := t.TempDir(), t.TempDir()
	entry := "ubuntu/20.04/" + arch(t) + "/" + release
	put(t, hub, entry+".btf", rawBTF(t, right))
	for _, test := range []struct{ name, path, want string }{
		{"raw BTF", put(t, files, "raw.btf", rawBTF(t, right)), ""},
		{"ELF file", put(t, files, "vmlinux", elfWith(t, rawBTF(t, right), nil)), ""},
		{"directory", files, put(t, files, release+".btf", rawBTF(t, right))},
		{"BTFHub's layout", hub, hub + ": " + entry},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := n.open(Options{Path: test.path}).Types(t.Context())
			require.NoError(t, err)
			if test.want == "" {
				test.want = test.path
			}
			require.Equal(t, Explicit, got.Source.Kind)
			require.Equal(t, test.want, got.Source.Place())
			requireRight(t, got)
			require.True(t, strings.HasPrefix(got.Source.String(),
				"kernel 5.4.0-42-generic: BTF explicit from "+test.want+", 3 facts agree (thread id, "), got.Source.String())
		})
	}
}

// TestBadExplicitTypesAreAnError: who names a file wants that one, and no other
// in its place.
func TestBadExplicitTypesAreAnError(t *testing.T) {
	n := newNode(t)
	put(t, filepath.Dir(n.inKernel), "vmlinux", rawBTF(t, right))
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	good := elfWith(t, rawBTF(t, right), nil)
	for _, test := range []struct{ name, path, want string }{
		{"absent", filepath.Join(dir, "none"), dir + "/none: not there"},
		{"empty", put(t, dir, "empty", nil), dir + "/empty: neither an ELF file nor raw BTF"},
		{"text", put(t, dir, "text", []byte("no BTF at all, only text")), dir + "/text: neither an ELF file nor raw BTF"},
		{"ELF file without BTF", put(t, dir, "elf", elfWith(t, nil, nil)), dir + "/elf: ELF file without a .BTF section"},
		{"ELF file that is cut", put(t, dir, "cut", good[:80]), dir + "/cut: "},
		{"pipe", fifo, dir + "/fifo: not a regular file of at most 4294967296 bytes"},
		{"no URL of a service", "https://user:secret@host/", "want http://host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := open(Options{Path: test.path, Root: n.root, Release: release}, n.places)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "secret")
			if !strings.HasPrefix(test.path, "https") {
				require.ErrorContains(t, err, "reading BTF given by --btf: ")
				require.ErrorContains(t, err, "(want a BTF file, an ELF file with a .BTF section, a directory")
			}
		})
	}
}

func TestExplicitTypesOfAnotherKernelAreRefused(t *testing.T) {
	n := newNode(t)
	put(t, filepath.Dir(n.inKernel), "vmlinux", rawBTF(t, right))
	put(t, filepath.Dir(n.notes), "notes", buildID("running"))
	files, empty := t.TempDir(), t.TempDir()
	for _, test := range []struct {
		name, path, want string
		proven           bool
	}{
		{
			"witness disagrees", put(t, files, "wrong.btf", rawBTF(t, wrong)),
			"BTF " + files + "/wrong.btf isn't this kernel's (5.4.0-42-generic): thread id is 0, want 4711; name the BTF of exactly this kernel", true,
		},
		{
			"nothing to check", put(t, files, "empty.btf", build(t, &btf.Int{Name: "int", Size: 4})),
			"BTF " + files + "/empty.btf can't be proven to be this kernel's (5.4.0-42-generic): 0 facts agree, want at least 3; ", false,
		},
		{
			"other build-id", put(t, files, "other", elfWith(t, rawBTF(t, right), buildID("another"))),
			"BTF " + files + "/other isn't this kernel's (5.4.0-42-generic): build-id is 616e6f74686572, want 72756e6e696e67; ", true,
		},
		{
			"same build-id, and the witness disagrees", put(t, files, "liar", elfWith(t, rawBTF(t, wrong), buildID("running"))),
			"BTF " + files + "/liar isn't this kernel's", true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := n.open(Options{Path: test.path}).Types(t.Context())
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.proven, refused.Proven)
			require.True(t, strings.HasPrefix(err.Error(), test.want), err.Error())
		})
	}
	_, err := n.open(Options{Path: empty}).Types(t.Context())
	var notFound *NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.Equal(t, []string{empty + "/" + release + ".btf: not there", empty + ": has no kernel of this name"}, notFound.Tried)

	cut := put(t, files, "cut.btf", rawBTF(t, right)[:40])
	_, err = n.open(Options{Path: cut}).Types(t.Context())
	require.ErrorContains(t, err, "BTF "+cut+" can't be used: ")
}

func TestBuildIDProvesWhatCantBeChecked(t *testing.T) {
	n := newNode(t)
	put(t, filepath.Dir(n.notes), "notes", buildID("running"))
	path := put(t, n.root, "boot/vmlinux-"+release, elfWith(t, build(t, &btf.Int{Name: "int", Size: 4}), buildID("running")))
	got, err := n.open(Options{}).Types(t.Context())
	require.NoError(t, err)
	require.Equal(t, path, got.Source.Path)
	require.Equal(t, "build-id is the kernel's, 0 facts agree", got.Source.Proof)

	c := n.open(Options{})
	c.check = func(context.Context, *btf.Spec) (witness.Testimony, error) {
		return witness.Testimony{}, errors.New("no")
	}
	got, err = c.Types(t.Context())
	require.NoError(t, err)
	require.Equal(t, "build-id is the kernel's", got.Source.Proof)
}

// TestAWitnessThatCantBeAskedProvesNothing: lack of rights isn't agreement.
func TestAWitnessThatCantBeAskedProvesNothing(t *testing.T) {
	n := newNode(t)
	c := n.open(Options{Path: put(t, t.TempDir(), "x.btf", rawBTF(t, right))})
	c.check = func(context.Context, *btf.Spec) (witness.Testimony, error) {
		return witness.Testimony{}, errors.New("checking BTF needs root")
	}
	_, err := c.Types(t.Context())
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.False(t, refused.Proven)
	require.True(t, strings.HasSuffix(err.Error(), "x.btf can't be proven to be this kernel's (5.4.0-42-generic): checking BTF needs root"), err.Error())
}

func TestKernelsOwnTypesComeBeforeAllOthers(t *testing.T) {
	n := newNode(t)
	put(t, filepath.Dir(n.inKernel), "vmlinux", nil)
	put(t, n.root, "boot/vmlinux-"+release, elfWith(t, rawBTF(t, right), nil))
	c := n.open(Options{Service: "http://127.0.0.1:1"})
	c.check = nil // It isn't asked.
	got, err := c.Types(t.Context())
	require.NoError(t, err)
	require.Equal(t, Source{Kind: InKernel, Path: n.inKernel, Release: release}, got.Source)
	require.Nil(t, got.Spec, "the loader reads them itself")
	require.Equal(t, "kernel 5.4.0-42-generic: BTF in-kernel from "+n.inKernel, got.Source.String())
}

func TestTypesAreFoundWhereLibbpfLooks(t *testing.T) {
	for _, pattern := range vmlinuxPaths {
		name := strings.ReplaceAll(strings.ReplaceAll(pattern, "%[1]s", release), "%s", release)
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			path := put(t, n.root, name, elfWith(t, rawBTF(t, right), nil))
			put(t, n.root, "boot/vmlinux-5.4.0-43-generic", elfWith(t, rawBTF(t, wrong), nil))
			got, err := n.open(Options{}).Types(t.Context())
			require.NoError(t, err)
			require.Equal(t, OnDisk, got.Source.Kind)
			require.Equal(t, path, got.Source.Path)
			requireRight(t, got)
			require.Equal(t, n.inKernel+": not there", got.Source.Tried[0])
			require.Contains(t, got.Source.String(), " (before that: "+n.inKernel)
		})
	}
}

func TestUselessFilesDoNotHideAGoodOne(t *testing.T) {
	n := newNode(t)
	put(t, filepath.Dir(n.notes), "notes", buildID("running"))
	put(t, n.root, "boot/vmlinux-"+release, elfWith(t, nil, nil))
	put(t, n.root, "lib/modules/"+release+"/vmlinux-"+release, elfWith(t, rawBTF(t, right), buildID("another")))
	require.NoError(t, os.MkdirAll(filepath.Join(n.root, "lib/modules", release, "build/vmlinux"), 0o755))
	put(t, n.root, "usr/lib/modules/"+release+"/kernel/vmlinux", elfWith(t, rawBTF(t, wrong), nil))
	good := put(t, n.root, "usr/lib/debug/boot/vmlinux-"+release, elfWith(t, rawBTF(t, right), nil))
	got, err := n.open(Options{}).Types(t.Context())
	require.NoError(t, err)
	require.Equal(t, good, got.Source.Path)
	require.Len(t, got.Source.Tried, 5)
	for i, want := range []string{"not there", "without a .BTF section", "build-id is 616e", "not a regular file", "thread id is 0, want 4711"} {
		require.Contains(t, got.Source.Tried[i], want)
		require.NotContains(t, got.Source.Tried[i], "name the BTF")
	}
}

// TestFilesOutsideOfTheRootAreNotTheHosts, even if a link leads there.
func TestFilesOutsideOfTheRootAreNotTheHosts(t *testing.T) {
	n := newNode(t)
	outside := put(t, t.TempDir(), "vmlinux", elfWith(t, rawBTF(t, right), nil))
	require.NoError(t, os.MkdirAll(filepath.Join(n.root, "boot"), 0o755))
	require.NoError(t, os.Symlink(outside, filepath.Join(n.root, "boot/vmlinux-"+release)))
	_, err := n.open(Options{}).Types(t.Context())
	var notFound *NotFoundError
	require.ErrorAs(t, err, &notFound)
}

// shelf is an archive in memory.
type shelf map[string][]byte

func (s shelf) Lookup(k layout.Kernel) ([]byte, error) {
	if raw, ok := s[k.String()]; ok {
		return raw, nil
	}
	return nil, fs.ErrNotExist
}

func (s shelf) Find(arch, uname string) []layout.Kernel {
	var found []layout.Kernel
	for name := range s {
		if k, err := layout.Parse(name); err == nil && k.Arch == arch && k.Uname == uname {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, layout.Kernel.Compare)
	return found
}

func (s shelf) Same(a, b layout.Kernel) bool { return string(s[a.String()]) == string(s[b.String()]) }

func TestArchivesAreSearchedByNameThenByRelease(t *testing.T) {
	name := func(place string) string { return place + "/" + arch(t) + "/" + release }
	foreign := map[string]string{"x86_64": "arm64", "arm64": "x86_64"}[arch(t)]
	for _, test := range []struct {
		name  string
		shelf shelf
		want  string
		kind  SourceKind
		tried string
	}{
		{"exact", shelf{name("ubuntu/20.04"): rawBTF(t, right), name("ubuntu/18.04"): rawBTF(t, wrong)}, "ubuntu/20.04", Bundle, ""},
		{"by code name", shelf{name("ubuntu/focal"): rawBTF(t, right)}, "ubuntu/focal", Bundle, ""},
		{"same name elsewhere", shelf{name("ubuntu/18.04"): rawBTF(t, right)}, "ubuntu/18.04", SameName, ""},
		{"same name, one content", shelf{
			name("ubuntu/18.04"): rawBTF(t, right), name("mint/20"): rawBTF(t, right),
		}, "mint/20", SameName, ""},
		{"ambiguous", shelf{
			name("ubuntu/18.04"): rawBTF(t, right), name("mint/20"): rawBTF(t, wrong),
		}, "", "", "here: has kernels of this name that differ, and none is this distribution's: " + name("mint/20") + ", " + name("ubuntu/18.04")},
		{"exact one is wrong", shelf{
			name("ubuntu/20.04"): rawBTF(t, wrong), name("ubuntu/18.04"): rawBTF(t, right),
		}, "ubuntu/18.04", SameName, ""},
		{"other architecture", shelf{"ubuntu/20.04/" + foreign + "/" + release: rawBTF(t, right)}, "", "", "here: has no kernel of this name"},
		{"other kernel", shelf{"ubuntu/20.04/" + arch(t) + "/5.4.0-43-generic": rawBTF(t, right)}, "", "", "here: has no kernel of this name"},
		{"unusable", shelf{name("ubuntu/20.04"): []byte("\x9f\xeb")}, "", "", "here: " + name("ubuntu/20.04") + " can't be used: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newNode(t).open(Options{})
			c.sources = []source{func(_ context.Context, _ request, offer func(candidate) bool, miss func(error)) {
				c.offerFrom(test.shelf, candidate{source: Source{Kind: Bundle, Path: "here", Release: release}}, offer, miss)
			}}
			got, err := c.Types(t.Context())
			if test.want == "" {
				var notFound *NotFoundError
				require.ErrorAs(t, err, &notFound)
				require.Contains(t, strings.Join(notFound.Tried, "; "), test.tried)
				return
			}
			require.NoError(t, err)
			requireRight(t, got)
			require.Equal(t, test.kind, got.Source.Kind)
			require.Equal(t, "here: "+name(test.want), got.Source.Place())
			encoded, err := json.Marshal(got.Source)
			require.NoError(t, err)
			require.Contains(t, string(encoded), `"entry":"`+name(test.want)+`"`)
		})
	}
}

// serve is a BTF service that knows one kernel, by distribution and release or,
// with an empty one, by its own release only.
func serve(tb testing.TB, distro string, raw []byte) (url string, questions *atomic.Int64) {
	tb.Helper()
	questions = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		questions.Add(1)
		query := r.URL.Query()
		if query.Get("distro") != distro || query.Get("kernel") != release || query.Get("arch") != arch(tb) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"type":"tag:nodegadget.dev,2026:btf-service/unknown-kernel"}`))
			return
		}
		_, _ = w.Write(raw)
	}))
	tb.Cleanup(server.Close)
	return server.URL, questions
}

func TestServiceIsTheLastToBeAsked(t *testing.T) {
	for _, distro := range []string{"ubuntu", "debian", ""} {
		n := newNode(t)
		url, questions := serve(t, distro, rawBTF(t, right))
		c := n.open(Options{Service: url})
		got, err := c.Types(t.Context())
		require.NoError(t, err)
		require.Equal(t, Service, got.Source.Kind)
		require.Equal(t, url, got.Source.Path)
		require.Equal(t, distro, got.Source.Entry.Distro)
		requireRight(t, got)
		require.Len(t, got.Source.Tried, 1+len(vmlinuxPaths)+1, "%v", got.Source.Tried)

		// Asked once for the same needs.
		asked := questions.Load()
		again, err := c.Types(t.Context())
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.Equal(t, asked, questions.Load())

		explicit, err := n.open(Options{Path: url}).Types(t.Context())
		require.NoError(t, err)
		require.Equal(t, Explicit, explicit.Source.Kind)
		require.Empty(t, explicit.Source.Tried)
	}
}

func TestServiceThatFailsIsSaid(t *testing.T) {
	url, _ := serve(t, "ubuntu", rawBTF(t, wrong))
	other, _ := serve(t, "gentoo", rawBTF(t, right))
	for _, test := range []struct{ url, want string }{
		{url, "thread id is 0, want 4711"},
		{other, other + ": has no kernel of this name"},
		{"http://127.0.0.1:1", "connection refused"},
	} {
		_, err := newNode(t).open(Options{Service: test.url}).Types(t.Context())
		var notFound *NotFoundError
		require.ErrorAs(t, err, &notFound)
		require.ErrorContains(t, err, test.want)
	}
}

func TestNotFoundNamesKernelPlacesAndRemedies(t *testing.T) {
	n := newNode(t)
	_, err := n.open(Options{}).Types(t.Context())
	var notFound *NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.Len(t, notFound.Tried, 1+len(vmlinuxPaths)+1)
	require.Len(t, notFound.Remedies(), 3)
	text := err.Error()
	require.True(t, strings.HasPrefix(text, "no BTF for kernel 5.4.0-42-generic ("+arch(t)+", Ubuntu 20.04.6 LTS): tried "+n.inKernel+": not there; "), text)
	for _, want := range append([]string{"--btf", "linux-image-5.4.0-42-generic-dbgsym", "CONFIG_DEBUG_INFO_BTF", "btfgen collect"}, notFound.Tried...) {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "\n")
	require.NotContains(t, text, "%!")

	require.NoError(t, os.Remove(filepath.Join(n.root, "etc/os-release")))
	_, err = n.open(Options{}).Types(t.Context())
	require.ErrorContains(t, err, ", unknown distribution): tried ")
	require.ErrorContains(t, err, "distribution is unknown: "+n.root+"/etc/os-release: not there")
}

func TestDebugPackageIsThatOfTheFamily(t *testing.T) {
	for fixture, want := range map[string]string{
		"debian-11": "linux-image-R-dbg", "ubuntu-18.04": "linux-image-R-dbgsym", "mint": "linux-image-R-dbgsym",
		"rhel-8.6": "kernel-debuginfo-R", "rocky-8": "kernel-debuginfo-R", "amzn-2": "kernel-debuginfo-R", "azurelinux-3": "kernel-debuginfo-R",
		"talos": "", "sles-15.3": "",
	} {
		id, err := identify(rootOf(t, fixture), "R")
		require.NoError(t, err)
		require.Equal(t, want, debugPackage(id), fixture)
	}
	require.Equal(t, "kernel-default-debuginfo", debugPackage(Identity{ID: "sles", Release: "5.3.18-57-default"}))
	require.Equal(t, "kernel-uek-debuginfo-5.4.17-1.el8uek", debugPackage(Identity{ID: "ol", Release: "5.4.17-1.el8uek"}))
}

func TestChoiceEndsWithItsContext(t *testing.T) {
	n := newNode(t)
	put(t, n.root, "boot/vmlinux-"+release, elfWith(t, rawBTF(t, wrong), nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.open(Options{}).Types(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestBrokenObjectsAreAnError(t *testing.T) {
	_, err := newNode(t).open(Options{}).Types(t.Context(), tailor.Object{Name: "trace_x", Content: []byte("no object")})
	require.ErrorContains(t, err, "choosing BTF: ")
	require.ErrorContains(t, err, "trace_x")
}

func TestRememberedTypesAreBounded(t *testing.T) {
	c := newNode(t).open(Options{})
	for i := range 2 * maxCached {
		c.remember(tailor.Digest{byte(i)}, Types{})
		require.LessOrEqual(t, len(c.chosen), maxCached)
	}
}

// TestOwnTypesAsAFileAreAccepted with the real witness, and other kernels' refused.
func TestOwnTypesAsAFileAreAccepted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading eBPF needs root")
	}
	raw, err := os.ReadFile(inKernelPath)
	if err != nil {
		t.Skipf("this kernel carries no BTF: %v", err)
	}
	path := put(t, t.TempDir(), "own.btf", raw)
	c, err := Open(Options{Path: path})
	require.NoError(t, err)
	defer c.Close()
	types, err := c.Types(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(types.Source.Testimony.Agreed), 10)

	c, err = Open(Options{Path: put(t, t.TempDir(), "other.btf", rawBTF(t, right))})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Types(t.Context())
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
}
