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
	"slices"
)

// moduleMember is a kernel module in a package: its path below lib/modules.
var moduleMember = regexp.MustCompile(`^(?:usr/)?lib/modules/([^/]+/kernel/.*\.ko(?:\.xz)?)$`)

// modules returns the directory with the modules of a fetched kernel, each of them at
// RELEASE/kernel/...; it is empty for a kernel that is built, which has none. They are
// taken out of the same package as the kernel was: others refuse each other.
func (s *store) modules(ctx context.Context, k kernel, image kernelImage) (string, error) {
	if k.Build != "" {
		return "", nil
	}
	final := filepath.Dir(image.Boot) + "-modules"
	unlock, err := lockDir(ctx, s.dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	ar, err := s.archiveWith(ctx, k, image.Package)
	if err != nil {
		return "", err
	}
	return final, s.download(ctx, ar, image.Package, unpackModules, func(content string) error {
		return os.Rename(content, final)
	})
}

// archiveWith finds the suite that has a version of a package.
func (s *store) archiveWith(ctx context.Context, k kernel, p pkg) (archive, error) {
	for _, suite := range k.Source.Suites {
		ar, pkgs, err := s.index(ctx, suite, k.Arch)
		if err != nil {
			return archive{}, err
		}
		if slices.Contains(pkgs, p) {
			return ar, nil
		}
	}
	return archive{}, fmt.Errorf("%s is in none of %v any more, try --refresh", p, k.Source.Suites)
}

// unpackModules leaves a kernel's modules in dir.
func unpackModules(ctx context.Context, deb, dir string) error {
	cmd, err := command(ctx, "dpkg", "dpkg-deb", "--fsys-tarfile", deb)
	if err != nil {
		return err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = writeModules(pipe, dir)
	return errors.Join(err, cmd.Wait())
}

func writeModules(r io.Reader, dir string) error {
	// What a package is made of can't leave the directory.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	found := false
	for files := tar.NewReader(r); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) && !found {
			return errors.New("no modules in the package")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading package: %w", err)
		}
		name := moduleMember.FindStringSubmatch(path.Clean(header.Name))
		if header.Typeflag != tar.TypeReg || name == nil {
			continue
		}
		found = true
		if err := writeMember(root, name[1], files); err != nil {
			return err
		}
	}
}

func writeMember(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
