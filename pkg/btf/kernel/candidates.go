// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"regexp"
	"slices"
	"strings"

	"nodegadget.dev/pkg/btf/layout"
)

// maxCandidates bounds the names that are tried. An ID_LIKE may list anything.
const maxCandidates = 48

// Candidates are the names that an archive may have for this kernel, the best
// first: by ID, then by distributions that share kernels with it, then by
// ID_LIKE, and last by what the kernel's own name says. What isn't a name is
// left out.
func (id Identity) Candidates() []layout.Kernel {
	distros := []string{id.ID}
	distros = append(distros, sharing[id.ID]...)
	for _, like := range id.IDLike {
		distros = append(append(distros, like), sharing[like]...)
	}
	var found []layout.Kernel
	add := func(distro, release string) {
		for _, uname := range unames(distro, id.Release) {
			k := layout.Kernel{Distro: distro, Release: release, Arch: id.Arch, Uname: uname}
			if len(found) < maxCandidates && k.Validate() == nil && !slices.Contains(found, k) {
				found = append(found, k)
			}
		}
	}
	for _, distro := range distros {
		for _, release := range releases(distro, id.VersionID, id.VersionCodename) {
			add(distro, release)
		}
	}
	for _, tag := range releaseTags {
		if match := tag.pattern.FindStringSubmatch(id.Release); match != nil {
			for _, distro := range tag.distros {
				for _, release := range releases(distro, match[1], "") {
					add(distro, release)
				}
			}
			break
		}
	}
	return found
}

// sharing says under which other names a distribution's kernels may be filed.
var sharing = map[string][]string{
	"rhel":          {"centos"},
	"centos":        {"rhel"},
	"opensuse-leap": {"sles"},
	"opensuse":      {"sles"},
	"suse":          {"sles"},
	"sled":          {"sles"},
	"sles_sap":      {"sles"},
}

// releaseTags are what distributions write into a kernel's release, the most
// special first. They help where os-release is a container's.
var releaseTags = []struct {
	pattern *regexp.Regexp
	distros []string
}{
	{regexp.MustCompile(`\.el(\d+)uek`), []string{"ol"}},
	{regexp.MustCompile(`\.el(\d+)`), []string{"rhel", "centos"}},
	{regexp.MustCompile(`\.amzn(\d+)`), []string{"amzn"}},
	{regexp.MustCompile(`\.fc(\d+)`), []string{"fedora"}},
	{regexp.MustCompile(`\+deb(\d+)`), []string{"debian"}},
}

// Debian's releases are filed by number or by code name, Ubuntu's by number.
var (
	debianReleases = [][2]string{
		{"9", "stretch"}, {"10", "buster"}, {"11", "bullseye"}, {"12", "bookworm"}, {"13", "trixie"}, {"14", "forky"},
	}
	ubuntuReleases = [][2]string{
		{"16.04", "xenial"}, {"18.04", "bionic"}, {"20.04", "focal"}, {"22.04", "jammy"}, {"24.04", "noble"},
	}
)

var (
	servicePack = regexp.MustCompile(`^(\d+)-sp(\d+)$`)
	yearMonth   = regexp.MustCompile(`^20\d\d\.\d\d$`)
)

// releases are the folders that a distribution's release may have: as it stands
// in os-release, its major number, its code name.
func releases(distro, version, codename string) []string {
	var found []string
	add := func(names ...string) {
		for _, name := range names {
			if name != "" && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	switch {
	case distro == "amzn" && yearMonth.MatchString(version):
		// Amazon Linux 1 counted by year and month.
		add("1")
	case distro == "sles" && servicePack.MatchString(version):
		add(servicePack.ReplaceAllString(version, "$1.$2"))
	}
	major, _, _ := strings.Cut(version, ".")
	add(version, major, codename)
	known := map[string][][2]string{"debian": debianReleases, "ubuntu": ubuntuReleases}[distro]
	for _, names := range known {
		if slices.Contains(found, names[0]) || slices.Contains(found, names[1]) {
			add(names[1], names[0])
		}
	}
	return found
}

// SLES's archives name a kernel by its package, whose rebuild number the kernel
// itself may leave out: 5.3.18-59.37-default and 5.3.18-59.37.1-default.
var (
	slesPlain   = regexp.MustCompile(`^(\d[\d.]*-\d+(?:\.\d+)*)(-[a-z_]+)$`)
	slesRebuilt = regexp.MustCompile(`^(\d[\d.]*-\d+\.\d+(?:\.\d+)*)\.\d+(-[a-z_]+)$`)
)

func unames(distro, release string) []string {
	names := []string{release}
	if distro != "sles" {
		return names
	}
	for _, style := range []struct {
		pattern *regexp.Regexp
		with    string
	}{{slesPlain, "${1}.1${2}"}, {slesRebuilt, "${1}${2}"}} {
		if style.pattern.MatchString(release) {
			names = append(names, style.pattern.ReplaceAllString(release, style.with))
		}
	}
	return names
}
