// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/hub/internal/unpack"
	"nodegadget.dev/pkg/btf/layout"
)

func TestMemberUname(t *testing.T) {
	for name, want := range map[string]string{
		"./boot/vmlinuz-5.10.0-8-amd64":                                  "5.10.0-8-amd64",
		"boot/vmlinux-5.3.18-57-default.gz":                              "5.3.18-57-default",
		"/boot/Image-5.3.18-57-default":                                  "5.3.18-57-default",
		"boot/vmlinuz-3.10.0-957.el7.x86_64.debug":                       "3.10.0-957.el7.x86_64.debug",
		"lib/modules/5.3.7-301.fc31.x86_64/vmlinuz":                      "5.3.7-301.fc31.x86_64",
		"usr/lib/modules/7.3.4+deb13-amd64/vmlinuz":                      "7.3.4+deb13-amd64",
		"usr/lib/debug/boot/vmlinux-4.19.0-16-amd64":                     "4.19.0-16-amd64",
		"usr/lib/debug/boot/vmlinux-5.3.18-57-default.debug":             "5.3.18-57-default",
		"usr/lib/debug/lib/modules/4.18.0-80.el8.x86_64/vmlinux":         "4.18.0-80.el8.x86_64",
		"usr/lib/debug/usr/lib/modules/5.14.21-default/vmlinux.debug":    "5.14.21-default",
		"usr/lib/modules/5.14.21-default/vmlinux.xz":                     "5.14.21-default",
		"usr/lib/modules/5.14.21-default/build/vmlinux":                  "",
		"lib/modules/5.10.0-8-amd64/kernel/fs/ext4.ko":                   "",
		"boot/System.map-5.10.0-8-amd64":                                 "",
		"boot/config-5.10.0-8-amd64":                                     "",
		"lib/modules/../vmlinuz":                                         "",
		"usr/share/boot/vmlinuz-1":                                       "",
		"boot/vmlinuz-":                                                  "",
		"lib/modules/5.10.0-8-amd64/kernel/../../5.10.0-9-amd64/vmlinuz": "5.10.0-9-amd64",
	} {
		require.Equal(t, want, memberUname(name), name)
	}
}

func TestOriginOfControl(t *testing.T) {
	for _, test := range []struct{ maintainer, version, uname, want string }{
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "4.9.303-1", "4.9.0-18-amd64", "debian/9"},
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "4.19.232-1", "4.19.0-19-amd64", "debian/10"},
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "5.10.70-1", "5.10.0-9-amd64", "debian/bullseye"},
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "5.10.70-1~bpo10+1", "5.10.0-0.bpo.9-amd64", "debian/10"},
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "6.1.90-1~deb11u1", "6.1.0-0.deb11.21-amd64", "debian/bullseye"},
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "6.1.192-2", "6.1.0-56-cloud-amd64", "debian/12"},
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "6.12.117-1", "6.12.117+deb13-amd64", "debian/13"},
		{"Debian Kernel Team <debian-kernel@lists.debian.org>", "7.2.1-1", "7.2.1-amd64", "debian/"},
		{"Ubuntu Kernel Team <kernel-team@lists.ubuntu.com>", "4.15.0-20.21", "4.15.0-20-generic", "ubuntu/18.04"},
		{"Ubuntu Kernel Team <kernel-team@lists.ubuntu.com>", "5.4.0-58.64~18.04.1", "5.4.0-58-generic", "ubuntu/18.04"},
		{"Ubuntu Kernel Team <kernel-team@lists.ubuntu.com>", "5.4.0-1010.10", "5.4.0-1010-aws", "ubuntu/20.04"},
		{"Canonical Kernel Team", "5.8.0-23.24", "5.8.0-23-generic", "ubuntu/"},
		{"Someone Else", "1.0", "5.4.0-58-generic", "/"},
	} {
		o := originOfControl(fmt.Sprintf("Package: linux-image\nMaintainer: %s\nVersion: %s\nDescription: x\n a: b\n", test.maintainer, test.version))
		o.uname = test.uname
		o.guess()
		require.Equal(t, test.want, o.distro+"/"+o.release, test.version)
	}
}

func TestOriginOfRPM(t *testing.T) {
	for _, test := range []struct {
		meta        unpack.RPM
		uname, want string
	}{
		{unpack.RPM{Release: "1160.el7", Vendor: "CentOS"}, "3.10.0-1160.el7.x86_64", "centos/7"},
		{unpack.RPM{Release: "80.el8", Vendor: "Red Hat, Inc."}, "4.18.0-80.el8.x86_64", "rhel/8"},
		{unpack.RPM{Release: "2047.el7uek", Vendor: "Oracle America"}, "4.14.35-2047.el7uek.x86_64", "ol/7"},
		{unpack.RPM{Release: "305.el8_4", Vendor: "Oracle America"}, "4.18.0-305.el8_4.x86_64", "ol/8"},
		{unpack.RPM{Release: "427.el9_4", Vendor: "AlmaLinux"}, "5.14.0-427.el9_4.x86_64", "almalinux/9"},
		{unpack.RPM{Release: "427.el9_4", Vendor: "Rocky Enterprise Software Foundation"}, "5.14.0-427.el9_4.x86_64", "rocky/9"},
		{unpack.RPM{Release: "80.el8", Vendor: "My Company"}, "4.18.0-80.el8.x86_64", "/"},
		{unpack.RPM{Release: "301.fc31", Vendor: "Fedora Project"}, "5.3.7-301.fc31.aarch64", "fedora/31"},
		{unpack.RPM{Release: "73.amzn1"}, "4.14.200-73.amzn1.x86_64", "amzn/1"},
		{unpack.RPM{Release: "73.amzn2023"}, "6.1.1-73.amzn2023.x86_64", "amzn/2023"},
		{unpack.RPM{Release: "150300.59.43.1", Vendor: "SUSE LLC <https://www.suse.com/>"}, "5.3.18-150300.59.43-default", "sles/15.3"},
		{unpack.RPM{Release: "57.3", Vendor: "SUSE LLC", Distribution: "SUSE Linux Enterprise 15 SP3"}, "5.3.18-57-default", "sles/15.3"},
		{unpack.RPM{Release: "57.3", Vendor: "SUSE LLC", Distribution: "SUSE Linux Enterprise 15"}, "5.3.18-57-default", "sles/"},
	} {
		o := originOfRPM(test.meta)
		o.uname = test.uname
		o.guess()
		require.Equal(t, test.want, o.distro+"/"+o.release, test.meta)
	}
}

func TestGivenPartsGoFirst(t *testing.T) {
	o := origin{distro: "debian", release: "12", arch: "amd64", uname: "6.1.0-56-amd64"}
	k, err := o.kernel(layout.Kernel{Release: "bookworm"})
	require.NoError(t, err)
	require.Equal(t, layout.Kernel{Distro: "debian", Release: "bookworm", Arch: "x86_64", Uname: "6.1.0-56-amd64"}, k)
	_, err = o.kernel(layout.Kernel{Distro: "ubuntu"})
	require.ErrorContains(t, err, "give --release", "debian's release is not ubuntu's")
	_, err = o.kernel(layout.Kernel{Arch: "mips"})
	require.ErrorContains(t, err, `architecture "mips"`)
	_, err = o.kernel(layout.Kernel{Uname: "../../etc"})
	require.ErrorContains(t, err, `kernel "../../etc"`)
}

func TestOriginOfPath(t *testing.T) {
	require.Equal(t, origin{distro: "ubuntu", release: "20.04", arch: "x86_64", uname: "5.4.0"}, originOfPath("/hub/ubuntu/20.04/x86_64/5.4.0.btf"))
	require.Equal(t, origin{uname: "5.4.0"}, originOfPath("/tmp/5.4.0.btf"))
	require.Equal(t, origin{}, originOfPath("/sys/kernel/btf/vmlinux"))
}

func TestBanner(t *testing.T) {
	filler := strings.Repeat("x", 1<<20-20) // the banner lies on the border of a window
	for content, want := range map[string]string{
		"":                                       "",
		"Linux version %s (%s":                   "",
		filler + string(sampleBanner("5.4.0-1")): "5.4.0-1",
		filler + filler + string(sampleBanner("6.1.0+deb")):                "6.1.0+deb",
		string(sampleBanner("5.4.0-1")) + string(sampleBanner("4.19.0-1")): "5.4.0-1",
		"Linux version " + strings.Repeat("9", 97) + " (":                  "",
	} {
		got, err := banner(strings.NewReader(content))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func FuzzImage(f *testing.F) {
	vmlinux := sampleVmlinux(f, sampleUname)
	f.Add(vmlinux)
	f.Add(sampleImage(f, sampleUname))
	for _, format := range []string{"gz", "xz", "zst", "lz4", "lzma"} {
		f.Add(makeBzImage(f, format, vmlinux))
		f.Add(makeZboot(f, format, vmlinux))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		image, err := unpackImage(b, 1<<20)
		if err != nil {
			require.Nil(t, image)
			require.NotContains(t, err.Error(), "\x1b")
			return
		}
		_ = findBTF(image)
		_ = imageArch(image)
		_, err = banner(bytes.NewReader(image))
		require.NoError(t, err)
	})
}

// FuzzPackage reads whole packages of both kinds.
func FuzzPackage(f *testing.F) {
	vmlinuz := member{name: "boot/vmlinuz-" + sampleUname, content: makeBzImage(f, "gz", sampleVmlinux(f, sampleUname))}
	f.Add(makeDeb(f, "", debianControl, vmlinuz))
	f.Add(makeDeb(f, "gz", debianControl, vmlinuz))
	f.Add(makeRPM(f, "", map[uint32]string{1002: "80.el8", 1011: "CentOS"}, vmlinuz))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := collector{opts: CollectOptions{TempDir: t.TempDir(), Pahole: "/nonexistent"}}
		read := c.findDeb
		if bytes.HasPrefix(b, []byte(unpack.RPMMagic)) {
			read = c.findRPM
		}
		found, err := read(t.Context(), bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			require.Nil(t, found.raw)
			return
		}
		require.NoError(t, checkBTF(found.raw))
	})
}
