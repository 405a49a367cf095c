// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/layout"
)

const (
	debianControl = "Package: linux-image\nVersion: 5.10.46-4\nArchitecture: amd64\nMaintainer: Debian Kernel Team <debian-kernel@lists.debian.org>\n"
	ubuntuControl = "Package: linux-image\nVersion: 5.4.0-58.64~18.04.1\nArchitecture: amd64\nMaintainer: Ubuntu Kernel Team <kernel-team@lists.ubuntu.com>\n"
)

// collectOne collects from one file of the given content.
func collectOne(t *testing.T, name string, content []byte, opts CollectOptions) Collected {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, name, content)
	if opts.Out == "" {
		opts.Out = t.TempDir()
	}
	opts.TempDir = t.TempDir()
	report, err := Collect(t.Context(), []string{filepath.Join(dir, name)}, opts)
	require.NoError(t, err)
	require.Len(t, report.Inputs, 1)
	left, err := os.ReadDir(opts.TempDir)
	require.NoError(t, err)
	require.Empty(t, left, "temporary files")
	return report.Inputs[0]
}

func TestCollectFromPackages(t *testing.T) {
	vmlinux := sampleVmlinux(t, sampleUname)
	boot := func(uname string) member {
		return member{name: "./boot/vmlinuz-" + uname, content: makeBzImage(t, "zst", sampleVmlinux(t, uname))}
	}
	debug := member{name: "./usr/lib/debug/lib/modules/4.18.0-80.el8.x86_64/vmlinux", content: vmlinux}
	noise := member{name: "./lib/modules/5.10.0-8-amd64/kernel/vmlinux.ko", content: []byte("module")}
	for _, test := range []struct {
		name, want, source string
		content            []byte
	}{
		{"plain.deb", "debian/bullseye/x86_64/5.10.0-8-amd64", "image", makeDeb(t, "", debianControl, noise, boot(sampleUname))},
		{"gz.deb", "debian/bullseye/x86_64/5.10.0-8-amd64", "image", makeDeb(t, "gz", debianControl, boot(sampleUname))},
		{"xz.deb", "ubuntu/18.04/x86_64/5.4.0-58-generic", "image", makeDeb(t, "xz", ubuntuControl, boot("5.4.0-58-generic"))},
		{"zst.deb", "debian/13/x86_64/7.3.4+deb13-cloud-amd64", "image", makeDeb(t, "zst", strings.Replace(debianControl, "5.10.46-4", "7.3.4-1~bpo13+1", 1),
			member{name: "./usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz", content: makeBzImage(t, "zst", vmlinux)})},
		{"dbg.deb", "debian/bullseye/x86_64/5.10.0-8-amd64", "section", makeDeb(t, "xz", debianControl,
			member{name: "./usr/lib/debug/boot/vmlinux-5.10.0-8-amd64", content: vmlinux})},
		{"gz.rpm", "centos/8/x86_64/4.18.0-80.el8.x86_64", "section", makeRPM(t, "gz",
			map[uint32]string{1000: "kernel-debuginfo", 1002: "80.el8", 1011: "CentOS", 1022: "x86_64"}, debug)},
		{"xz.rpm", "ol/7/x86_64/5.4.17-2011.el7uek.x86_64", "image", makeRPM(t, "xz",
			map[uint32]string{1000: "kernel-uek", 1002: "2011.el7uek", 1011: "Oracle America"}, noise, boot("5.4.17-2011.el7uek.x86_64"))},
		{"zst.rpm", "sles/15.4/arm64/5.14.21-150400.24-default", "image", makeRPM(t, "zst",
			map[uint32]string{1002: "150400.24", 1011: "SUSE LLC <https://www.suse.com/>", 1022: "aarch64"},
			member{name: "/boot/Image-5.14.21-150400.24-default", content: sampleImage(t, "5.14.21")})},
		{"lzma.rpm", "amzn/2/x86_64/4.14.343-260.564.amzn2.x86_64", "image", makeRPM(t, "lzma",
			map[uint32]string{1002: "260.564.amzn2", 1011: "Amazon Linux"}, boot("4.14.343-260.564.amzn2.x86_64"))},
		{"none.rpm", "fedora/31/x86_64/5.3.7-301.fc31.x86_64", "image", makeRPM(t, "",
			map[uint32]string{1002: "301.fc31", 1011: "Fedora Project"},
			member{name: "./lib/modules/5.3.7-301.fc31.x86_64/vmlinuz", content: makeBzImage(t, "gz", vmlinux)})},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := t.TempDir()
			got := collectOne(t, test.name, test.content, CollectOptions{Out: out})
			require.Empty(t, got.Reason)
			require.Equal(t, test.want, got.Kernel)
			require.Equal(t, test.source, got.Source)
			require.NotEmpty(t, got.Member)
			require.True(t, got.Written)
			entry, err := Read(out, test.want+layout.ArchiveSuffix, Options{})
			require.NoError(t, err)
			raw, err := entry.BTF(t.Context())
			require.NoError(t, err)
			require.Equal(t, sampleBTF(t, "task_struct"), raw)
			again := collectOne(t, test.name, test.content, CollectOptions{Out: out})
			require.Empty(t, again.Reason)
			require.False(t, again.Written)
		})
	}
}

func TestCollectFromImages(t *testing.T) {
	vmlinux, image := sampleVmlinux(t, sampleUname), sampleImage(t, "6.12.0-arm64")
	amd64, arm64 := "debian/10/x86_64/5.10.0-8-amd64", "debian/10/arm64/6.12.0-arm64"
	tests := map[string]struct {
		content []byte
		want    string
	}{
		"vmlinux":       {vmlinux, amd64},
		"vmlinux.gz":    {compress(t, "gz", vmlinux), amd64},
		"Image":         {image, arm64},
		"Image.gz":      {append(compress(t, "gz", image), "padding"...), arm64},
		"5.4.0-raw.btf": {sampleBTF(t, "task_struct"), "debian/10/x86_64/5.4.0-raw"},
	}
	for _, format := range []string{"gz", "xz", "zst", "lz4", "lzma"} {
		tests["vmlinuz."+format] = struct {
			content []byte
			want    string
		}{makeBzImage(t, format, vmlinux), amd64}
		tests["zboot."+format] = struct {
			content []byte
			want    string
		}{makeZboot(t, format, image), arm64}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			given := layout.Kernel{Distro: "debian", Release: "10"}
			if strings.HasSuffix(name, ".btf") {
				given.Arch = "amd64"
			}
			got := collectOne(t, name, test.content, CollectOptions{Kernel: given})
			require.Empty(t, got.Reason)
			require.Equal(t, test.want, got.Kernel)
			require.Equal(t, len(sampleBTF(t, "task_struct")), got.Size)
		})
	}
}

func TestCollectNamesWhatItCantRead(t *testing.T) {
	vmlinux := sampleVmlinux(t, sampleUname)
	rodata := elfSection{name: ".rodata", content: sampleBanner(sampleUname)}
	noBTF := makeELF(t, elf.EM_X86_64, rodata)
	vmlinuz := makeBzImage(t, "gz", vmlinux)
	deb := makeDeb(t, "gz", debianControl, member{name: "boot/vmlinuz-" + sampleUname, content: vmlinuz})
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":       {nil, "not a kernel: EOF"},
		"text":        {[]byte("#!/bin/sh\nexit\n"), "not a kernel: begins with"},
		"no-distro":   {vmlinuz, `kernel "5.10.0-8-amd64": can't tell all parts of its name distro/release/arch/kernel; give --distro, --release`},
		"nameless":    {sampleBTF(t, "a"), "give --distro, --release, --arch, --uname"},
		"no-btf":      {noBTF, "the kernel has no BTF"},
		"no-btf-bz":   {makeBzImage(t, "xz", noBTF), "the kernel has no BTF"},
		"broken-btf":  {makeELF(t, elf.EM_X86_64, elfSection{name: ".BTF", content: []byte("types")}), "not BTF"},
		"mips":        {makeELF(t, elf.EM_MIPS, rodata), "built for EM_MIPS"},
		"broken-elf":  {vmlinux[:70], "vmlinux: "},
		"cut-bzimage": {vmlinuz[:1100], "bzImage: unexpected EOF"},
		"old-bzimage": {[]byte(strings.Replace(string(vmlinuz), "HdrS\x0f", "HdrS\x07", 1)), "boot protocol older than 2.08"},
		"cut-zboot":   {makeZboot(t, "gz", vmlinux)[:70], "zboot image: unexpected EOF"},
		"cut-deb":     {deb[:len(deb)-60], "unexpected EOF"},
		"no-data-deb": {deb[:72], "deb: no data.tar"},
		"modules.deb": {makeDeb(t, "gz", debianControl, member{name: "lib/modules/5.10/x.ko", content: []byte("x")}), "no kernel in the package"},
		"no-btf.deb": {
			makeDeb(t, "gz", debianControl, member{name: "boot/vmlinuz-5.10", content: makeBzImage(t, "gz", noBTF)}),
			`"boot/vmlinuz-5.10" in the package: the kernel has no BTF`,
		},
		"strange.deb": {makeDeb(t, "gz", "Maintainer: me", member{name: "boot/vmlinuz-5.10", content: vmlinuz}), "give --distro, --release"},
		"parent.deb":  {makeDeb(t, "gz", debianControl, member{name: "lib/modules/../vmlinuz", content: vmlinuz}), "no kernel in the package"},
		"esc.deb":     {makeDeb(t, "gz", debianControl, member{name: "boot/vmlinuz-5.10\x1b[2J", content: vmlinuz}), `kernel "5.10\x1b[2J"`},
		"cut-rpm":     {makeRPM(t, "gz", nil)[:100], "rpm: signatures: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			got := collectOne(t, name, test.content, CollectOptions{Out: out})
			require.Contains(t, got.Reason, test.want)
			require.NotContains(t, got.Reason, "\n")
			require.NotContains(t, got.Reason, "\x1b")
			left, err := os.ReadDir(out)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestCollectGoesOn(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", []byte("not a kernel at all"))
	put(t, dir, "b", sampleVmlinux(t, "5.10.0-8-amd64"))
	put(t, dir, "c", sampleVmlinux(t, "5.10.0-9-amd64"))
	var progress []Progress
	inputs := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), dir, "/nonexistent", filepath.Join(dir, "c")}
	report, err := Collect(t.Context(), inputs, CollectOptions{
		Out: t.TempDir(), Kernel: layout.Kernel{Distro: "debian", Release: "11"}, Workers: 2,
		Progress: func(p Progress) { progress = append(progress, p) },
	})
	require.NoError(t, err)
	require.Len(t, report.Inputs, 5)
	for i, input := range inputs {
		require.Equal(t, input, report.Inputs[i].Input)
	}
	require.Equal(t, "debian/11/x86_64/5.10.0-8-amd64", report.Inputs[1].Kernel)
	require.True(t, report.Inputs[4].Written)
	failed := report.Failed()
	require.Len(t, failed, 3)
	require.Contains(t, failed[1].Reason, "not a file")
	require.Contains(t, failed[2].Reason, "no such file")
	require.Equal(t, Progress{Done: 5, Total: 5}, progress[4])
}

func TestCollectReplacesOnlyByForce(t *testing.T) {
	out := t.TempDir()
	raw := func(name string) []byte { return sampleBTF(t, name) }
	opts := CollectOptions{Out: out, Kernel: focal}
	require.True(t, collectOne(t, "a", raw("a"), opts).Written)
	require.Contains(t, collectOne(t, "b", raw("b"), opts).Reason, "has other types")
	opts.Force = true
	require.True(t, collectOne(t, "b", raw("b"), opts).Written)
}

func TestCollectRefuses(t *testing.T) {
	out := t.TempDir()
	_, err := Collect(t.Context(), []string{"a", "b"}, CollectOptions{Out: out, Kernel: focal})
	require.ErrorContains(t, err, `2 inputs can't all be kernel "5.4.0-58-generic"`)
	_, err = Collect(t.Context(), nil, CollectOptions{Out: out, Workers: -1})
	require.ErrorContains(t, err, "can't be negative")
	_, err = Collect(t.Context(), nil, CollectOptions{})
	require.ErrorContains(t, err, "archive to write")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report, err := Collect(ctx, []string{"a"}, CollectOptions{Out: out})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "not reached", report.Inputs[0].Reason)
}

func TestCollectFromARealDeb(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("needs dpkg-deb: ", err)
	}
	for _, format := range []string{"gzip", "xz", "zstd", "none"} {
		tree := t.TempDir()
		put(t, tree, "DEBIAN/control", []byte(strings.Replace(debianControl, "Maintainer", "Description: x\nMaintainer", 1)))
		put(t, tree, "boot/vmlinuz-"+sampleUname, makeBzImage(t, "xz", sampleVmlinux(t, sampleUname)))
		deb := filepath.Join(t.TempDir(), "kernel.deb")
		out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-Z"+format, "--build", tree, deb).CombinedOutput()
		require.NoError(t, err, string(out))
		report, err := Collect(t.Context(), []string{deb}, CollectOptions{Out: t.TempDir()})
		require.NoError(t, err)
		require.Empty(t, report.Failed(), format)
		require.Equal(t, "debian/bullseye/x86_64/"+sampleUname, report.Inputs[0].Kernel)
	}
}

// compiled returns an object with real debug information and no BTF.
func compiled(t *testing.T) []byte {
	t.Helper()
	for _, tool := range []string{"gcc", "pahole"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool, ": ", err)
		}
	}
	dir := t.TempDir()
	put(t, dir, "a.c", []byte("struct task_struct { long state; int pid; } init_task;\n"+
		"int pid_of(struct task_struct *task) { return task->pid; }\n"+
		"const char banner[] = \"Linux version 4.19.0-16-amd64 (build@host)\";\n"))
	out, err := exec.CommandContext(t.Context(), "gcc", "-g", "-gdwarf-4", "-c", "-o", dir+"/a.o", dir+"/a.c").CombinedOutput()
	require.NoError(t, err, string(out))
	object, err := os.ReadFile(dir + "/a.o")
	require.NoError(t, err)
	return object
}

func TestCollectFromDWARF(t *testing.T) {
	object := compiled(t)
	given := layout.Kernel{Distro: "debian", Release: "10"}
	out := t.TempDir()
	got := collectOne(t, "vmlinux", object, CollectOptions{Out: out, Kernel: given})
	require.Empty(t, got.Reason)
	require.Equal(t, "DWARF", got.Source)
	require.True(t, strings.HasSuffix(got.Kernel, "/4.19.0-16-amd64"), got.Kernel)
	entry, err := Read(out, got.Kernel+layout.ArchiveSuffix, Options{})
	require.NoError(t, err)
	raw, err := entry.BTF(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(raw), "\x00task_struct\x00")

	deb := makeDeb(t, "gz", debianControl, member{name: "usr/lib/debug/boot/vmlinux-4.19.0-16-amd64", content: object})
	got = collectOne(t, "dbg.deb", deb, CollectOptions{})
	require.Equal(t, "DWARF", got.Source)
	require.True(t, strings.HasPrefix(got.Kernel, "debian/10/"), got.Kernel)
}

func TestPaholesFailures(t *testing.T) {
	debug := makeELF(t, elf.EM_X86_64, elfSection{name: ".debug_info", content: []byte("types")},
		elfSection{name: ".BTF", content: []byte("left out"), empty: true})
	script := func(text string) string {
		dir := t.TempDir()
		put(t, dir, "pahole", []byte("#!/bin/sh\n"+text))
		require.NoError(t, os.Chmod(filepath.Join(dir, "pahole"), 0o755))
		return filepath.Join(dir, "pahole")
	}
	for _, test := range []struct{ pahole, want string }{
		{"pahole-that-is-not-there", "making BTF needs pahole (package pahole or dwarves)"},
		{script("printf 'bad \\033[31m' >&2; exit 3"), `pahole: exit status 3: "bad \x1b[31m"`},
		{script("exit 0"), "pahole made no BTF"},
		{script(`echo types > "${1#*=}"`), "not BTF"},
		{script(`head -c 17000000 /dev/zero > "${1#*=}"`), "pahole's BTF: more than"},
	} {
		got := collectOne(t, "vmlinux", debug, CollectOptions{Pahole: test.pahole})
		require.Contains(t, got.Reason, test.want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	put(t, dir, "vmlinux", debug)
	started := filepath.Join(dir, "started")
	slow := script("touch " + started + "; exec sleep 60")
	done := make(chan error, 1)
	go func() {
		_, err := Collect(ctx, []string{filepath.Join(dir, "vmlinux")}, CollectOptions{Out: dir, Pahole: slow})
		done <- err
	}()
	require.Eventually(t, func() bool { _, err := os.Stat(started); return err == nil }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}
