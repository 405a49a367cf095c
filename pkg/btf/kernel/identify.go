// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/layout"
)

// Identity is what is known of the running kernel by name. The distribution's
// part is as os-release(5) has it; each of its fields may be empty.
type Identity struct {
	ID              string   `json:"id,omitempty"`
	VersionID       string   `json:"versionID,omitempty"`
	VersionCodename string   `json:"versionCodename,omitempty"`
	IDLike          []string `json:"idLike,omitempty"`
	PrettyName      string   `json:"prettyName,omitempty"`
	// Arch is x86_64 or arm64.
	Arch string `json:"arch"`
	// Release is the kernel's, as `uname -r` prints it.
	Release string `json:"release"`
}

// Identify names the running kernel. The distribution is that of the file system
// at root, the host's, empty for "/". If it can't be told, the error says why and
// the rest of the identity is good all the same.
func Identify(root string) (Identity, error) {
	dir, err := openRoot(root)
	if err != nil {
		return Identity{}, err
	}
	defer dir.close()
	release, err := Release()
	if err != nil {
		return Identity{}, err
	}
	return identify(dir, release)
}

func identify(root *hostRoot, release string) (Identity, error) {
	id := Identity{Release: release, Arch: runtime.GOARCH}
	if arch, err := layout.Arch(runtime.GOARCH); err == nil {
		id.Arch = arch
	}
	values, err := readOSRelease(root)
	if err != nil {
		return id, fmt.Errorf("distribution is unknown: %w", err)
	}
	id.ID, id.VersionID = strings.ToLower(values["ID"]), strings.ToLower(values["VERSION_ID"])
	id.VersionCodename, id.PrettyName = strings.ToLower(values["VERSION_CODENAME"]), values["PRETTY_NAME"]
	id.IDLike = strings.Fields(strings.ToLower(values["ID_LIKE"]))
	return id, nil
}

// String is how messages name the distribution.
func (id Identity) String() string {
	switch {
	case id.PrettyName != "":
		return id.PrettyName
	case id.ID != "":
		return strings.TrimSpace(id.ID + " " + id.VersionID)
	}
	return "unknown distribution"
}

// Release is the running kernel's release, as `uname -r` prints it.
func Release() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("reading kernel release: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}
