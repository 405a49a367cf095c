// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"nodegadget.dev/pkg/btf/hub/internal/unpack"
	"nodegadget.dev/pkg/btf/layout"
)

// origin is what an input says about its kernel. Parts may be unknown.
type origin struct {
	distro, release, arch, uname string
}

// kernel names the kernel. Parts that are given go first.
func (o origin) kernel(given layout.Kernel) (layout.Kernel, error) {
	o.guess()
	if given.Distro != "" && given.Distro != o.distro {
		o.release = "" // it was guessed for another distribution
	}
	k := layout.Kernel{
		Distro:  cmp.Or(given.Distro, o.distro),
		Release: cmp.Or(given.Release, o.release),
		Arch:    cmp.Or(given.Arch, o.arch),
		Uname:   cmp.Or(given.Uname, o.uname),
	}
	var missing []string
	for _, part := range []struct{ value, flag string }{
		{k.Distro, "--distro"}, {k.Release, "--release"}, {k.Arch, "--arch"}, {k.Uname, "--uname"},
	} {
		if part.value == "" {
			missing = append(missing, part.flag)
		}
	}
	if len(missing) > 0 {
		return k, fmt.Errorf("kernel %.100q: can't tell all parts of its name distro/release/arch/kernel; give %s",
			k.Uname, strings.Join(missing, ", "))
	}
	arch, err := layout.Arch(k.Arch)
	if err != nil {
		return k, err
	}
	k.Arch = arch
	return k, k.Validate()
}

// What kernel releases say about their distribution.
var (
	unameUEK    = regexp.MustCompile(`\.el(\d+)uek\b`)
	unameAmazon = regexp.MustCompile(`\.amzn(\d+)\b`)
	unameFedora = regexp.MustCompile(`\.fc(\d+)\b`)
	unameDebian = regexp.MustCompile(`\+deb(\d+)\b`)
)

// guess adds distribution and release if the kernel's release has them.
func (o *origin) guess() {
	for _, rule := range []struct {
		re     *regexp.Regexp
		distro string
	}{
		{unameUEK, "ol"}, {unameAmazon, "amzn"}, {unameFedora, "fedora"}, {unameDebian, "debian"},
	} {
		if m := rule.re.FindStringSubmatch(o.uname); m != nil && (o.distro == "" || o.distro == rule.distro) {
			o.distro, o.release = rule.distro, cmp.Or(o.release, releaseFolder(rule.distro, m[1]))
		}
	}
	if o.distro != "" && o.release == "" {
		o.release = releaseOfSeries(o.distro, o.uname)
	}
}

// releaseFolder is how BTFHub names a release: Debian 11 is the only one that it
// has by its name.
func releaseFolder(distro, version string) string {
	if distro == "debian" && version == "11" {
		return "bullseye"
	}
	return version
}

// releaseOfSeries knows the kernel series that a release came out with.
func releaseOfSeries(distro, uname string) string {
	for _, s := range []struct{ distro, prefix, release string }{
		{"debian", "4.9.", "9"},
		{"debian", "4.19.", "10"},
		{"debian", "5.10.", "bullseye"},
		{"debian", "6.1.", "12"},
		{"debian", "6.12.", "13"},
		{"ubuntu", "4.4.0-", "16.04"},
		{"ubuntu", "4.15.0-", "18.04"},
		{"ubuntu", "5.4.0-", "20.04"},
		{"ubuntu", "5.15.0-", "22.04"},
		{"ubuntu", "6.8.0-", "24.04"},
	} {
		if s.distro == distro && strings.HasPrefix(uname, s.prefix) {
			return s.release
		}
	}
	return ""
}

// What package versions say. Ubuntu marks packages for an earlier release by
// ~20.04, Debian those for a stable one by deb12 or bpo12.
var (
	versionUbuntu = regexp.MustCompile(`~(\d\d\.\d\d)\b`)
	versionDebian = regexp.MustCompile(`[~+](?:deb|bpo)(\d+)`)
)

// originOfControl reads a Debian package's control file.
func originOfControl(control string) origin {
	fields := map[string]string{}
	for line := range strings.Lines(control) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	version, maintainer := fields["Version"], strings.ToLower(fields["Maintainer"])
	switch {
	case strings.Contains(maintainer, "ubuntu") || strings.Contains(maintainer, "canonical"):
		return origin{distro: "ubuntu", release: submatch(versionUbuntu, version)}
	case strings.Contains(maintainer, "debian"):
		return origin{distro: "debian", release: releaseFolder("debian", submatch(versionDebian, version))}
	}
	return origin{}
}

func submatch(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

var (
	releaseEL   = regexp.MustCompile(`\.el(\d+)`)
	releaseSLES = regexp.MustCompile(`^(150|160|120)(\d)00\.`)
	distroSLES  = regexp.MustCompile(`SUSE Linux Enterprise(?: Server)? (\d+) SP(\d)`)
)

// originOfRPM reads an rpm package's metadata.
func originOfRPM(p unpack.RPM) origin {
	vendor := strings.ToLower(p.Vendor + " " + p.Distribution)
	if strings.Contains(vendor, "suse linux enterprise") || strings.Contains(vendor, "suse llc") {
		return origin{distro: "sles", release: releaseOfSLES(p)}
	}
	el := submatch(releaseEL, p.Release)
	if el == "" {
		return origin{}
	}
	for _, v := range []struct{ part, distro string }{
		{"oracle", "ol"}, {"centos", "centos"}, {"red hat", "rhel"}, {"alma", "almalinux"}, {"rocky", "rocky"},
	} {
		if strings.Contains(vendor, v.part) {
			return origin{distro: v.distro, release: el}
		}
	}
	return origin{}
}

// releaseOfSLES returns 15.4 of 5.14.21-150400.24.1, or what the package says of
// its distribution. Releases before 15.3 number their kernels without a system.
func releaseOfSLES(p unpack.RPM) string {
	if m := releaseSLES.FindStringSubmatch(p.Release); m != nil {
		return m[1][:2] + "." + m[2]
	}
	if m := distroSLES.FindStringSubmatch(p.Distribution); m != nil {
		return m[1] + "." + m[2]
	}
	return ""
}
