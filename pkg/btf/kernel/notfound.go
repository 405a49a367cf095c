// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// NotFoundError says that there is no BTF for this kernel, and what can be done.
type NotFoundError struct {
	// Release and Arch are the kernel's.
	Release, Arch string
	// Distro is for people, as Identity.String gives it.
	Distro string
	// Tried are the places that had nothing usable, each with the reason.
	Tried []string
	// Package is the distribution's package with the debug vmlinux, empty if unknown.
	Package string
}

func (e *NotFoundError) Error() string {
	remedies := e.Remedies()
	for i := range remedies {
		remedies[i] = fmt.Sprintf("(%d) %s", i+1, remedies[i])
	}
	return fmt.Sprintf("%s: tried %s; what helps: %s", e.Summary(), strings.Join(e.Tried, "; "), strings.Join(remedies, ", "))
}

// Summary is the error without what was tried and what helps.
func (e *NotFoundError) Summary() string {
	return fmt.Sprintf("no BTF for kernel %s (%s, %s)", e.Release, e.Arch, e.Distro)
}

// Remedies are the three things that the operator can do.
func (e *NotFoundError) Remedies() []string {
	vmlinux := "install the debug vmlinux of exactly this kernel"
	if e.Package != "" {
		vmlinux += " (package " + e.Package + ")"
	}
	return []string{
		"name this kernel's BTF with --btf: a BTF file, a directory, a bundle, or a BTF service's URL",
		vmlinux,
		"run a kernel built with CONFIG_DEBUG_INFO_BTF=y, or add this one to the bundle with btfgen collect and btfgen build",
	}
}

func (c *Chooser) notFound(tried []string) error {
	return &NotFoundError{
		Release: c.id.Release, Arch: c.id.Arch, Distro: c.id.String(), Tried: tried, Package: debugPackage(c.id),
	}
}

var suseFlavour = regexp.MustCompile(`-([a-z_]+)$`)

// debugPackage names the package with the debug vmlinux, where distributions of
// the family have one.
func debugPackage(id Identity) string {
	family := append([]string{id.ID}, id.IDLike...)
	is := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(family, name) })
	}
	switch {
	case is("ubuntu"):
		return "linux-image-" + id.Release + "-dbgsym"
	case is("debian"):
		return "linux-image-" + id.Release + "-dbg"
	case strings.Contains(id.Release, "uek"):
		return "kernel-uek-debuginfo-" + id.Release
	case is("rhel", "centos", "fedora", "ol", "amzn", "azurelinux", "mariner"):
		return "kernel-debuginfo-" + id.Release
	case is("sles", "suse", "opensuse"):
		if flavour := suseFlavour.FindStringSubmatch(id.Release); flavour != nil {
			return "kernel-" + flavour[1] + "-debuginfo"
		}
	}
	return ""
}

// because is the reason why there was nothing at path. A refusal says it itself.
func because(path string, err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return err
	}
	return errors.New(reason(path, err))
}

// reason says in one line why there was nothing at path.
func reason(path string, err error) string {
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path + ": not there"
	case errors.Is(err, fs.ErrPermission):
		return path + ": not readable"
	case errors.As(err, &at):
		// Its own path is one below the root, or says the same again.
		err = at.Err
	}
	return fmt.Sprintf("%s: %v", path, err)
}
