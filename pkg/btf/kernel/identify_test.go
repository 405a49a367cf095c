// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/layout"
)

// rootOf is a file system with a fixture for its os-release.
func rootOf(tb testing.TB, fixture string) *hostRoot {
	tb.Helper()
	content, err := os.ReadFile(filepath.Join("testdata/os-release", fixture))
	require.NoError(tb, err)
	dir := tb.TempDir()
	put(tb, dir, "etc/os-release", content)
	return rootAt(tb, dir)
}

func rootAt(tb testing.TB, dir string) *hostRoot {
	tb.Helper()
	root, err := openRoot(dir)
	require.NoError(tb, err)
	tb.Cleanup(root.close)
	return root
}

// TestCandidatesOfEveryDistribution: the archive's own names come first, ARCH
// stands for both architectures.
func TestCandidatesOfEveryDistribution(t *testing.T) {
	for _, test := range []struct {
		fixture, release string
		want             []string
	}{
		{"ubuntu-16.04", "4.4.0-210-generic", []string{"ubuntu/16.04", "ubuntu/16", "ubuntu/xenial", "debian/16.04", "debian/16", "debian/xenial"}},
		{"ubuntu-18.04", "5.4.0-42-generic", []string{"ubuntu/18.04", "ubuntu/18", "ubuntu/bionic", "debian/18.04", "debian/18", "debian/bionic"}},
		{"ubuntu-20.04", "5.8.0-63-generic", []string{"ubuntu/20.04", "ubuntu/20", "ubuntu/focal", "debian/20.04", "debian/20", "debian/focal"}},
		{"debian-9", "4.9.0-13-amd64", []string{"debian/9", "debian/stretch"}},
		{"debian-10", "4.19.0-26-cloud-amd64", []string{"debian/10", "debian/buster"}},
		{"debian-11", "5.10.0-34-amd64", []string{"debian/11", "debian/bullseye"}},
		{"debian-12", "6.1.0-25-amd64", []string{"debian/12", "debian/bookworm"}},
		{"debian-sid", "7.2.1-amd64", []string{"debian/forky", "debian/14"}},
		{"fedora-24", "4.5.5-300.fc24.x86_64", []string{"fedora/24"}},
		{"fedora-25", "4.8.6-300.fc25.x86_64", []string{"fedora/25"}},
		{"fedora-26", "4.11.8-300.fc26.x86_64", []string{"fedora/26"}},
		{"fedora-27", "4.13.9-300.fc27.x86_64", []string{"fedora/27"}},
		{"fedora-28", "4.16.3-301.fc28.x86_64", []string{"fedora/28"}},
		{"fedora-29", "4.18.16-300.fc29.x86_64", []string{"fedora/29"}},
		{"fedora-30", "5.0.9-301.fc30.x86_64", []string{"fedora/30"}},
		{"fedora-31", "5.3.7-301.fc31.x86_64", []string{"fedora/31"}},
		{"centos-7", "3.10.0-1160.el7.x86_64", []string{"centos/7", "rhel/7", "fedora/7"}},
		{"centos-8", "4.18.0-147.el8.x86_64", []string{"centos/8", "rhel/8", "fedora/8"}},
		{"centos-stream-8", "4.18.0-553.6.1.el8.aarch64", []string{"centos/8", "rhel/8", "fedora/8"}},
		{"ol-7.9", "5.4.17-2136.330.7.1.el7uek.x86_64", []string{"ol/7.9", "ol/7", "fedora/7.9", "fedora/7"}},
		{"ol-8.7", "5.4.17-2136.315.5.el8uek.x86_64", []string{"ol/8.7", "ol/8", "fedora/8.7", "fedora/8"}},
		{"rhel-7.9", "3.10.0-1160.el7.x86_64", []string{"rhel/7.9", "rhel/7", "centos/7.9", "centos/7", "fedora/7.9", "fedora/7"}},
		{"rhel-8.6", "4.18.0-372.9.1.el8.x86_64", []string{"rhel/8.6", "rhel/8", "centos/8.6", "centos/8", "fedora/8.6", "fedora/8"}},
		{"amzn-1", "4.14.336-180.566.amzn1.x86_64", []string{
			"amzn/1", "amzn/2018.03", "amzn/2018", "rhel/2018.03", "rhel/2018", "centos/2018.03", "centos/2018", "fedora/2018.03", "fedora/2018",
		}},
		{"amzn-2", "4.14.343-259.562.amzn2.x86_64", []string{"amzn/2", "centos/2", "rhel/2", "fedora/2"}},
		{"amzn-2023", "6.1.102-108.177.amzn2023.x86_64", []string{"amzn/2023", "fedora/2023"}},
		{"azurelinux-3", "6.6.44.1-1.azl3", []string{"azurelinux/3.0", "azurelinux/3"}},
		{"mariner-2", "5.15.158.2-1.cm2", []string{"mariner/2.0", "mariner/2"}},
		{"almalinux-8", "4.18.0-477.10.1.el8_8.x86_64", []string{
			"almalinux/8.8", "almalinux/8", "rhel/8.8", "rhel/8", "centos/8.8", "centos/8", "fedora/8.8", "fedora/8",
		}},
		{"rocky-8", "4.18.0-477.10.1.el8_8.x86_64", []string{
			"rocky/8.8", "rocky/8", "rhel/8.8", "rhel/8", "centos/8.8", "centos/8", "fedora/8.8", "fedora/8",
		}},
		{"cos", "6.1.90+", []string{"cos/113"}},
		{"bottlerocket", "6.1.94", []string{"bottlerocket/1.20.3", "bottlerocket/1"}},
		{"flatcar", "6.1.96-flatcar", []string{"flatcar/3815.2.5", "flatcar/3815", "coreos/3815.2.5", "coreos/3815"}},
		{"talos", "6.6.33-talos", []string{"talos/v1.7.5", "talos/v1"}},
		{"mint", "5.4.0-91-generic", []string{"linuxmint/20.3", "linuxmint/20", "linuxmint/una", "ubuntu/20.3", "ubuntu/20", "ubuntu/una"}},
	} {
		for _, arch := range []string{"x86_64", "arm64"} {
			t.Run(test.fixture+" "+arch, func(t *testing.T) {
				id, err := identify(rootOf(t, test.fixture), test.release)
				require.NoError(t, err)
				id.Arch = arch
				var got []string
				for _, k := range id.Candidates() {
					require.NoError(t, k.Validate())
					require.Equal(t, arch, k.Arch)
					require.Equal(t, test.release, k.Uname)
					got = append(got, k.Distro+"/"+k.Release)
				}
				require.Equal(t, test.want, got)
			})
		}
	}
}

// TestSUSENamesComeInTwoStyles: with and without the package's rebuild number.
func TestSUSENamesComeInTwoStyles(t *testing.T) {
	for _, test := range []struct {
		fixture, release string
		want             []string
	}{
		{"sles-12.3", "4.4.73-5-default", []string{"sles/12.3/x86_64/4.4.73-5-default", "sles/12.3/x86_64/4.4.73-5.1-default"}},
		{"sles-12.5", "4.12.14-122.12-default", []string{
			"sles/12.5/x86_64/4.12.14-122.12-default", "sles/12.5/x86_64/4.12.14-122.12.1-default",
		}},
		{"sles-12.5", "4.12.14-6.33.1-default", []string{
			"sles/12.5/x86_64/4.12.14-6.33.1-default", "sles/12.5/x86_64/4.12.14-6.33.1.1-default", "sles/12.5/x86_64/4.12.14-6.33-default",
		}},
		{"sles-15.1", "4.12.14-195-default", []string{"sles/15.1/x86_64/4.12.14-195-default", "sles/15.1/x86_64/4.12.14-195.1-default"}},
		{"sles-15.2", "5.3.18-22-default", []string{"sles/15.2/x86_64/5.3.18-22-default", "sles/15.2/x86_64/5.3.18-22.1-default"}},
		{"sles-15.3", "5.3.18-57-default", []string{"sles/15.3/x86_64/5.3.18-57-default", "sles/15.3/x86_64/5.3.18-57.1-default"}},
		{"sles-sp-style", "5.3.18-57-azure", []string{"sles/15.3/x86_64/5.3.18-57-azure", "sles/15.3/x86_64/5.3.18-57.1-azure"}},
		{"sles-15.4", "5.14.21-150400.22-default", []string{
			"sles/15.4/x86_64/5.14.21-150400.22-default", "sles/15.4/x86_64/5.14.21-150400.22.1-default",
		}},
		{"opensuse-leap-15.3", "5.3.18-57-default", []string{
			"opensuse-leap/15.3/x86_64/5.3.18-57-default", "sles/15.3/x86_64/5.3.18-57-default", "sles/15.3/x86_64/5.3.18-57.1-default",
		}},
	} {
		t.Run(test.fixture+" "+test.release, func(t *testing.T) {
			id, err := identify(rootOf(t, test.fixture), test.release)
			require.NoError(t, err)
			id.Arch = "x86_64"
			var got []string
			for _, k := range id.Candidates() {
				if full := k.String(); strings.Contains(k.Release, ".") && strings.HasPrefix(k.Distro, "s") || k.Distro == "opensuse-leap" {
					got = append(got, full)
				}
			}
			got = got[:min(len(got), len(test.want)+1)]
			require.Subset(t, got, test.want)
			require.Equal(t, test.want[0], got[0])
		})
	}
}

// TestKernelsNameTellsWhereTheFileDoesNot: os-release may be a container's.
func TestKernelsNameTellsWhereTheFileDoesNot(t *testing.T) {
	for release, want := range map[string]string{
		"5.4.17-2136.330.7.1.el7uek.x86_64": "ol/7",
		"4.18.0-372.9.1.el8_6.aarch64":      "rhel/8",
		"4.14.343-259.562.amzn2.x86_64":     "amzn/2",
		"5.3.7-301.fc31.x86_64":             "fedora/31",
		"6.12.117+deb13-cloud-amd64":        "debian/13",
	} {
		names := Identity{Arch: "arm64", Release: release}.Candidates()
		require.NotEmpty(t, names, release)
		require.Equal(t, want, names[0].Distro+"/"+names[0].Release)
	}
	require.Empty(t, Identity{Arch: "x86_64", Release: "6.6.0-custom"}.Candidates())
	require.Empty(t, Identity{ID: "debian", VersionID: "11", Arch: "riscv64", Release: "6.6.0"}.Candidates())
}

func TestQuotingIsThatOfAShell(t *testing.T) {
	id, err := identify(rootOf(t, "quotes"), release)
	require.NoError(t, err)
	require.Equal(t, Identity{
		ID: "debian", IDLike: []string{`a"b`, "c"}, PrettyName: `It is $HOME \n's "best"`, VersionID: `1\2`, VersionCodename: "plain",
		Arch: id.Arch, Release: release,
	}, id)
}

// TestHostileFilesNameNothing, and never anything outside of the root.
func TestHostileFilesNameNothing(t *testing.T) {
	outside := put(t, t.TempDir(), "secret", []byte("ID=outside\n"))
	huge := append([]byte("ID=debian\n"), make([]byte, maxOSRelease)...)
	link := func(target string) func(testing.TB, string) {
		return func(tb testing.TB, dir string) {
			require.NoError(tb, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
			require.NoError(tb, os.Symlink(target, filepath.Join(dir, "etc/os-release")))
		}
	}
	for _, test := range []struct {
		name string
		make func(testing.TB, string)
		want string
	}{
		{"missing", func(testing.TB, string) {}, "etc/os-release: not there"},
		{"empty", func(tb testing.TB, dir string) { put(tb, dir, "etc/os-release", nil) }, "names no distribution (ID=)"},
		{"huge", func(tb testing.TB, dir string) { put(tb, dir, "etc/os-release", huge) }, "not a regular file of at most 65536 bytes"},
		{"binary", func(tb testing.TB, dir string) { put(tb, dir, "etc/os-release", []byte("\x7fELF\x00ID=x")) }, "names no distribution"},
		{"absolute link out of the root", link(outside), "not there"},
		{"relative link out of the root", link("../../../../../../../../.." + outside), "not there"},
		{"loop", link("os-release"), "too many levels of symbolic links"},
		{"directory", func(tb testing.TB, dir string) { put(tb, dir, "etc/os-release/x", nil) }, "not a regular file"},
		{"pipe", func(tb testing.TB, dir string) {
			require.NoError(tb, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
			require.NoError(tb, unix.Mkfifo(filepath.Join(dir, "etc/os-release"), 0o600))
		}, "not a regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.make(t, dir)
			id, err := identify(rootAt(t, dir), release)
			require.ErrorContains(t, err, "distribution is unknown: ")
			require.ErrorContains(t, err, test.want)
			require.Equal(t, Identity{Arch: id.Arch, Release: release}, id)
			require.Equal(t, "unknown distribution", id.String())
		})
	}
}

// TestGarbageIsNoName: values that aren't names of files make no candidates.
func TestGarbageIsNoName(t *testing.T) {
	id, err := identify(rootOf(t, "garbage"), "../../x")
	require.NoError(t, err)
	require.Equal(t, "debian", id.ID)
	require.Empty(t, id.IDLike)
	require.Equal(t, "ok", id.String())
	require.Empty(t, id.Candidates())
	id.Release = release
	require.Empty(t, id.Candidates())
}

// TestLinksAreTheHosts: an absolute link begins at the host's root.
func TestLinksAreTheHosts(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "usr/lib/distro/real", []byte("ID=inside\nVERSION_ID=1\n"))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	require.NoError(t, os.Symlink("/etc/first", filepath.Join(dir, "etc/os-release")))
	require.NoError(t, os.Symlink("../../../usr/lib/link", filepath.Join(dir, "etc/first")))
	require.NoError(t, os.Symlink("/usr/lib/distro/real", filepath.Join(dir, "usr/lib/link")))
	id, err := identify(rootAt(t, dir), release)
	require.NoError(t, err)
	require.Equal(t, []layout.Kernel{{Distro: "inside", Release: "1", Arch: id.Arch, Uname: release}}, id.Candidates())
}

// TestSecondPlaceIsReadWhereTheFirstHasNothing: minimal images have only that.
func TestSecondPlaceIsReadWhereTheFirstHasNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "usr/lib/os-release", []byte("ID=flatcar\n"))
	id, err := identify(rootAt(t, dir), release)
	require.NoError(t, err)
	require.Equal(t, "flatcar", id.String())
}

func TestIdentifyIsThisMachines(t *testing.T) {
	id, err := Identify("")
	if err != nil {
		require.ErrorContains(t, err, "distribution is unknown")
	}
	require.NotEmpty(t, id.Release)
	require.Contains(t, []string{"x86_64", "arm64"}, id.Arch)
	_, err = Identify(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "opening the host's root: ")
}

func FuzzOSRelease(f *testing.F) {
	fixtures, err := filepath.Glob("testdata/os-release/*")
	require.NoError(f, err)
	for _, fixture := range fixtures {
		content, err := os.ReadFile(fixture)
		require.NoError(f, err)
		f.Add(string(content))
	}
	f.Fuzz(func(t *testing.T, content string) {
		values := parseOSRelease(content)
		for _, value := range values {
			require.True(t, printable(value))
		}
		id := Identity{
			ID: values["ID"], VersionID: values["VERSION_ID"], VersionCodename: values["VERSION_CODENAME"],
			IDLike: strings.Fields(values["ID_LIKE"]), Arch: "x86_64", Release: release,
		}
		names := id.Candidates()
		require.LessOrEqual(t, len(names), maxCandidates)
		for _, k := range names {
			require.NoError(t, k.Validate())
		}
	})
}
