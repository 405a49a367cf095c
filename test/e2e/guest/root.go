// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nodegadget.dev/test/e2e/cluster"
)

// hyperkube is where Kubernetes is on the disk.
const hyperkube = "/usr/bin/hyperkube"

// space is how much a guest can write, in bytes.
const space = 1 << 30

// keptDisks are how many are kept: each change of an image makes another one.
const keptDisks = 2

// Root is the root file system of guests: programs of this machine, and images that
// are unpacked already, which takes long where everything is emulated.
type Root struct {
	// Dir is where disks are kept, by what they are made of.
	Dir string
	// Hyperkube is the program that is all of Kubernetes.
	Hyperkube string
	// Images are archives.
	Images []string
}

// tree is what is on a disk, but for images.
type tree struct {
	files map[string]string // path on the disk to path on this machine
	links map[string]string
	dirs  []string
	texts map[string]string
}

// Disk returns the path of a disk, which it makes if there is none of the same contents.
func (r Root) Disk(ctx context.Context) (string, error) {
	t, err := r.plan(ctx)
	if err != nil {
		return "", fmt.Errorf("looking for what guests need: %w", err)
	}
	key, err := r.key(t)
	if err != nil {
		return "", err
	}
	disk := filepath.Join(r.Dir, "guest-"+key+".ext4")
	if _, err := os.Stat(disk); err == nil {
		return disk, nil
	}
	if err := r.make(ctx, t, disk); err != nil {
		return "", fmt.Errorf("making the disk of guests: %w", err)
	}
	return disk, r.prune()
}

// plan lists what goes onto the disk.
func (r Root) plan(ctx context.Context) (*tree, error) {
	t := &tree{
		files: map[string]string{hyperkube: r.Hyperkube},
		links: map[string]string{"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/lib64": "usr/lib64"},
		dirs: []string{
			"/boot", "/dev", "/disk", "/etc", "/opt", "/proc", "/root", "/run", "/sys", "/tmp", "/usr/lib/modules",
			"/usr/lib64", "/usr/sbin", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods",
			"/var/tmp", "/etc/kubernetes/manifests", "/etc/containerd/certs.d",
		},
		texts: map[string]string{
			"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
			"/etc/group":  "root:x:0:\nnogroup:x:65534:\n",
		},
	}
	programs, err := t.programs()
	if err != nil {
		return nil, err
	}
	for _, program := range programs {
		t.files[program] = program
		if err := addLibraries(t.files, program); err != nil {
			return nil, err
		}
	}
	return t, t.applets(ctx)
}

// programs are those of this machine that go to the same path.
func (*tree) programs() ([]string, error) {
	p, err := cluster.FindPrograms()
	if err != nil {
		return nil, err
	}
	// Busybox' mount lacks what the kubelet uses.
	all := []string{p.Containerd, p.Ctr, p.Runc, filepath.Join(filepath.Dir(p.Containerd), "containerd-shim-runc-v2")}
	for _, plugin := range []string{"bridge", "host-local", "loopback", "portmap"} {
		all = append(all, filepath.Join(p.CNI, plugin))
	}
	for _, name := range []string{"mount", "umount"} {
		path, err := find(name)
		if err != nil {
			return nil, err
		}
		all = append(all, path)
	}
	return all, nil
}

// applets adds busybox, under every name that nothing else has.
func (t *tree) applets(ctx context.Context) error {
	const path = "/usr/bin/busybox"
	busybox, err := find("busybox")
	if err != nil {
		return err
	}
	list, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("listing what busybox has: %w", err)
	}
	t.files[path] = busybox
	for applet := range strings.FieldsSeq(string(list)) {
		if name := "/usr/bin/" + applet; t.files[name] == "" {
			t.links[name] = "busybox"
		}
	}
	return nil
}

// key changes with every byte of the disk.
func (r Root) key(t *tree) (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q %q %d\n", t.links, t.dirs, t.texts, space)
	files := maps.Clone(t.files)
	for i, image := range r.Images {
		files[fmt.Sprintf("image %d", i)] = image
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := os.Open(files[name])
		if err != nil {
			return "", err
		}
		size, err := io.Copy(hash, f)
		fmt.Fprintf(hash, "%q %d\n", name, size)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:8]), nil
}

func (r Root) make(ctx context.Context, t *tree, disk string) error {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	// Where it stays: images can't be unpacked in every file system.
	tmp, err := os.MkdirTemp(r.Dir, "guest-*.tmp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root := filepath.Join(tmp, "root")
	if err := t.write(root); err != nil {
		return err
	}
	store := store{root: filepath.Join(root, "var/lib/containerd"), dir: tmp}
	if err := store.fill(ctx, r.Images); err != nil {
		return err
	}
	unfinished := filepath.Join(tmp, "disk")
	if err := format(ctx, root, unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, disk)
}

// write makes the directory that the disk is made of.
func (t *tree) write(root string) error {
	for _, dir := range t.dirs {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	var errs []error
	for name, target := range t.links {
		errs = append(errs, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755), os.Symlink(target, filepath.Join(root, name)))
	}
	for name, file := range t.files {
		errs = append(errs, copyFile(file, filepath.Join(root, name)))
	}
	for name, text := range t.texts {
		errs = append(errs, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		errs = append(errs, os.Chmod(filepath.Join(root, dir), fs.ModeSticky|0o777))
	}
	return errors.Join(errs...)
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// format makes a file system of a directory.
func format(ctx context.Context, root, disk string) error {
	program, err := find(mkfsProgram)
	if err != nil {
		return err
	}
	size := int64(space)
	err = filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size() + 4096 // as it takes whole blocks, and an inode
		}
		return err
	})
	if err != nil {
		return err
	}
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	// Nobody reads it after a crash, so it needs neither a journal nor checksums.
	out, err := exec.CommandContext(ctx, program, "-q", "-F", "-O", "^has_journal,^metadata_csum",
		"-E", "lazy_itable_init=0,nodiscard", "-m", "0", "-d", root, disk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// prune removes the oldest disks. Guests that have one open keep it.
func (r Root) prune() error {
	disks, err := filepath.Glob(filepath.Join(r.Dir, "guest-*.ext4"))
	if err != nil {
		return err
	}
	age := func(disk string) int64 {
		var stat unix.Stat_t
		_ = unix.Stat(disk, &stat) // gone is oldest
		return stat.Mtim.Nano()
	}
	slices.SortFunc(disks, func(a, b string) int { return cmp.Compare(age(b), age(a)) })
	for _, disk := range disks[min(keptDisks, len(disks)):] {
		if err := os.Remove(disk); err != nil {
			return err
		}
	}
	return nil
}
