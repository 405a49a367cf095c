// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"nodegadget.dev/test/kernels/cpio"
	"nodegadget.dev/test/kernels/internal/task"
)

// guestInit is the package of the program that is /init.
const guestInit = "nodegadget.dev/test/kernels/guest"

// initramfs is the root file system of the guests of one architecture.
type initramfs struct {
	Init    string // paths on this machine
	Busybox string
	Test    string
	Task    task.Task
	Add     []addition
}

// addition is a file or a directory that goes into the guest.
type addition struct{ Host, Guest string }

// parseAddition reads hostpath:guestpath.
func parseAddition(s string) (addition, error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 || !path.IsAbs(s[i+1:]) {
		return addition{}, fmt.Errorf("%q is not hostpath:/absolute/guestpath", s)
	}
	return addition{Host: s[:i], Guest: path.Clean(s[i+1:])}, nil
}

// buildInit compiles /init for an architecture.
func buildInit(ctx context.Context, a arch, out string) error {
	cmd, err := command(ctx, "golang", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, guestInit)
	if err != nil {
		return err
	}
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+string(a), "CGO_ENABLED=0")
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("building init for %s: %w", a, err)
	}
	return nil
}

// checkBinary refuses what a guest could not run, before it is booted.
func checkBinary(name string, a arch) error {
	m, err := a.machine()
	if err != nil {
		return err
	}
	f, err := elf.Open(name)
	var format *elf.FormatError
	if errors.As(err, &format) {
		return fmt.Errorf("test binary for %s: %s is not an ELF file", a, name)
	}
	if err != nil {
		return fmt.Errorf("test binary for %s: %w", a, err)
	}
	defer f.Close()
	if f.Machine.String() != m.elf {
		return fmt.Errorf("test binary for %s: %s is of another architecture: %s", a, name, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("test binary for %s: %s is not static, build it with CGO_ENABLED=0", a, name)
		}
	}
	return nil
}

// writeFile builds the archive.
func (i initramfs) writeFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(i.write(f), f.Close())
}

func (i initramfs) write(w io.Writer) error {
	taskFile, err := i.Task.Marshal()
	if err != nil {
		return err
	}
	c := cpio.NewWriter(w)
	// Init's standard output; the kernel opens it before /dev is mounted.
	c.CharDevice("/dev/console", 0o600, 5, 1)
	for _, dir := range []string{"/root", "/proc", "/sys", "/tmp", "/run", task.Dir} {
		c.Dir(dir)
	}
	for _, link := range []string{"/sbin", "/usr/bin", "/usr/sbin"} {
		c.Symlink(link, "/bin")
	}
	for _, f := range []struct{ name, content string }{
		{task.File, string(taskFile)},
		{"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"},
		{"/etc/group", "root:x:0:\n"},
		{"/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
	} {
		c.File(f.name, 0o644, int64(len(f.content)), strings.NewReader(f.content))
	}

	err = errors.Join(
		c.Copy("/init", i.Init, 0o755),
		c.Copy("/bin/busybox", i.Busybox, 0o755),
		c.Copy(task.Binary, i.Test, 0o755),
	)
	for _, a := range i.Add {
		err = errors.Join(err, c.CopyTree(a.Guest, a.Host))
	}
	return errors.Join(err, c.Close())
}
