// SPDX-License-Identifier: Apache-2.0

// Package layout names kernels the way BTFHub's archive does:
//
//	<distro>/<release>/<arch>/<uname -r>.btf.tar.xz
//
// It only knows names. What stands in such a file is pkg/btf/hub's business, and
// which name the running kernel has is pkg/btf/kernel's.
package layout

import (
	"cmp"
	"fmt"
	"path"
	"strings"
)

// maxPart bounds one part of a name, in bytes. A kernel release has at most 64
// (__NEW_UTS_LEN in include/uapi/linux/utsname.h).
const maxPart = 96

// Suffixes of the files that hold a kernel's types.
const (
	ArchiveSuffix = ".btf.tar.xz" // as BTFHub has them: one raw BTF file in a tar
	RawSuffix     = ".btf"        // raw BTF
)

// Kernel names a kernel. The zero value names none.
type Kernel struct {
	Distro  string // as in os-release's ID: ubuntu, debian, sles, …
	Release string // the distribution's release as a folder name: 20.04, bullseye, 7, …
	Arch    string // x86_64 or arm64
	Uname   string // as `uname -r` prints it
}

// String returns distro/release/arch/uname.
func (k Kernel) String() string { return path.Join(k.Distro, k.Release, k.Arch, k.Uname) }

// File returns the kernel's path in an archive.
func (k Kernel) File() string { return k.String() + ArchiveSuffix }

// Compare orders kernels by their parts: negative if k comes before other.
func (k Kernel) Compare(other Kernel) int {
	return cmp.Or(
		cmp.Compare(k.Distro, other.Distro),
		cmp.Compare(k.Release, other.Release),
		cmp.Compare(k.Arch, other.Arch),
		cmp.Compare(k.Uname, other.Uname),
	)
}

// Validate reports the first part that can't be a file's name. Whoever passes is
// safe to join to a directory.
func (k Kernel) Validate() error {
	for _, part := range [...]struct{ what, value string }{
		{"distribution", k.Distro}, {"release", k.Release}, {"architecture", k.Arch}, {"kernel", k.Uname},
	} {
		if !validPart(part.value) {
			return fmt.Errorf("%s %.100q: want 1 to %d of letters, digits and ._+~:-, not beginning with a dot",
				part.what, part.value, maxPart)
		}
	}
	if k.Arch != "x86_64" && k.Arch != "arm64" {
		return fmt.Errorf("architecture %q: want x86_64 or arm64", k.Arch)
	}
	return nil
}

func validPart(part string) bool {
	if part == "" || len(part) > maxPart || part[0] == '.' {
		return false
	}
	for i := range len(part) {
		if !validByte(part[i]) {
			return false
		}
	}
	return true
}

func validByte(c byte) bool {
	switch c {
	case '.', '_', '+', '~', ':', '-':
		return true
	}
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Parse reads a slash-separated path whose last four parts name a kernel, with
// or without one of the suffixes. Architectures are accepted under every name.
func Parse(file string) (Kernel, error) {
	name := strings.TrimSuffix(strings.TrimSuffix(file, ArchiveSuffix), RawSuffix)
	parts := strings.Split(name, "/")
	if len(parts) < 4 {
		return Kernel{}, fmt.Errorf("path %.200q: want distro/release/arch/kernel%s", file, ArchiveSuffix)
	}
	parts = parts[len(parts)-4:]
	k := Kernel{Distro: parts[0], Release: parts[1], Arch: parts[2], Uname: parts[3]}
	if arch, err := Arch(k.Arch); err == nil {
		k.Arch = arch
	}
	if err := k.Validate(); err != nil {
		return Kernel{}, fmt.Errorf("path %.200q: %w", file, err)
	}
	return k, nil
}

// Arch returns the archive's name of an architecture, which may be given as
// uname, Go, Debian or RPM call it.
func Arch(name string) (string, error) {
	switch name {
	case "x86_64", "amd64":
		return "x86_64", nil
	case "arm64", "aarch64":
		return "arm64", nil
	}
	return "", fmt.Errorf("architecture %q: want x86_64 (amd64) or arm64 (aarch64)", name)
}
