// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
)

// Names in the cache of what is taken out of packages.
const (
	bootFile    = "vmlinux"
	btfFile     = "btf"
	busyboxFile = "busybox"
)

var (
	// Up to 7.1 the kernel is in /boot, since 7.2 beside its modules.
	kernelMember  = regexp.MustCompile(`^(boot/vmlinu[xz]-[^/]+|(usr/)?lib/modules/[^/]+/vmlinu[xz])$`)
	busyboxMember = regexp.MustCompile(`^(usr/)?bin/busybox$`)
)

// unpackKernel leaves the bootable kernel and its type information in dir.
func unpackKernel(ctx context.Context, deb, dir string) error {
	packed, err := debMember(ctx, deb, kernelMember)
	if err != nil {
		return err
	}
	image, err := unpackImage(ctx, packed)
	if err != nil {
		return err
	}
	btf, err := findBTF(image)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, bootFile), image, 0o644),
		os.WriteFile(filepath.Join(dir, btfFile), btf, 0o644),
	)
}

// unpackBusybox leaves the busybox binary in dir.
func unpackBusybox(ctx context.Context, deb, dir string) error {
	binary, err := debMember(ctx, deb, busyboxMember)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, busyboxFile), binary, 0o755)
}

// debMember returns the first file of a package whose path matches. The rest of
// the package, mostly modules, is not even decompressed.
func debMember(ctx context.Context, deb string, name *regexp.Regexp) ([]byte, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd, err := command(ctx, "dpkg", "dpkg-deb", "--fsys-tarfile", deb)
	if err != nil {
		return nil, err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	data, err := tarMember(pipe, name)
	stop()
	_ = cmd.Wait() // ended by us, or the archive was cut short and err says so
	return data, err
}

func tarMember(r io.Reader, name *regexp.Regexp) ([]byte, error) {
	files := tar.NewReader(r)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("no file %s in the package", name)
		}
		if err != nil {
			return nil, fmt.Errorf("reading package: %w", err)
		}
		if header.Typeflag == tar.TypeReg && name.MatchString(path.Clean(header.Name)) {
			return io.ReadAll(files)
		}
	}
}
