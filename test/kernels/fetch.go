// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// maxCandidates bounds how many packages of a suite are tried: a mirror that lost
// one file has the next, a dead network has none.
const maxCandidates = 5

// store is the cache of what was fetched, by package version:
//
//	<dir>/apt/<suite>-<arch>/         apt's own state
//	<dir>/<arch>/<package>_<version>/ what was taken out of the package
//	<dir>/chosen/<name>.json          which package an entry of the matrix got
//	<dir>/build/                      lock and logs of kernels that are built
//	<dir>/corpus/                     lock and state of the corpus, see collect.go
//
// Whatever has its final name is whole, so a run that is cut short leaves at
// most rubbish in <dir>/tmp.
type store struct {
	dir      string
	mirrors  mirrors
	refresh  bool
	progress io.Writer
	updated  map[string]bool // archives whose index was fetched by this process
}

// choice remembers the package an entry got, and for which question.
type choice struct {
	Suites  []string `json:"suites"`
	Pattern string   `json:"pattern"`
	Arch    arch     `json:"arch"`
	Package pkg      `json:"package"`
	Dir     string   `json:"dir"` // relative to the store
}

// unpacker takes what is wanted out of a .deb into an empty directory.
type unpacker func(ctx context.Context, deb, dir string) error

// kernelImage is a fetched kernel.
type kernelImage struct {
	Package pkg
	Boot    string // what qemu boots
	BTF     string // raw type information, as in /sys/kernel/btf/vmlinux
}

func (s *store) kernel(ctx context.Context, k kernel) (kernelImage, error) {
	if k.Build != "" {
		return s.built(ctx, k)
	}
	c, err := s.fetch(ctx, k.cacheName(), k.Arch, k.Source, unpackKernel)
	if err != nil {
		return kernelImage{}, fmt.Errorf("fetching kernel %s: %w", k.Name, err)
	}
	return s.image(c), nil
}

// cached returns a kernel that needs no network and no building.
func (s *store) cached(k kernel) (kernelImage, bool) {
	c, ok := s.chosen(k.cacheName(), k.Arch, k.Source)
	if !ok || k.Build == "" {
		return s.image(c), ok
	}
	c, err := s.buildChoice(k, c)
	if err != nil {
		return kernelImage{}, false
	}
	_, err = os.Stat(filepath.Join(s.dir, c.Dir))
	return s.image(c), err == nil
}

func (s *store) image(c choice) kernelImage {
	dir := filepath.Join(s.dir, c.Dir)
	return kernelImage{Package: c.Package, Boot: filepath.Join(dir, bootFile), BTF: filepath.Join(dir, btfFile)}
}

// busybox returns the path of a static busybox.
func (s *store) busybox(ctx context.Context, a arch, from source) (string, error) {
	c, err := s.fetch(ctx, "busybox-"+string(a), a, from, unpackBusybox)
	if err != nil {
		return "", fmt.Errorf("fetching busybox for %s: %w", a, err)
	}
	return filepath.Join(s.dir, c.Dir, busyboxFile), nil
}

// fetch returns what was chosen before, or chooses anew.
func (s *store) fetch(ctx context.Context, name string, a arch, from source, unpack unpacker) (choice, error) {
	if c, ok := s.chosen(name, a, from); ok && !s.refresh {
		return c, nil
	}

	unlock, err := lockDir(ctx, s.dir)
	if err != nil {
		return choice{}, err
	}
	defer unlock()
	// Another process may have been faster.
	if c, ok := s.chosen(name, a, from); ok && !s.refresh {
		return c, nil
	}

	c := choice{Suites: from.Suites, Pattern: from.Package.String(), Arch: a}
	if c.Package, c.Dir, err = s.choose(ctx, a, from, unpack); err != nil {
		return choice{}, err
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return choice{}, err
	}
	return c, writeAtomically(s.chosenFile(name), append(data, '\n'))
}

// chosen returns the remembered choice if it answers the same question and is
// still in the cache.
func (s *store) chosen(name string, a arch, from source) (choice, bool) {
	data, err := os.ReadFile(s.chosenFile(name))
	if err != nil {
		return choice{}, false
	}
	var c choice
	if err := json.Unmarshal(data, &c); err != nil {
		return choice{}, false
	}
	if c.Arch != a || c.Pattern != from.Package.String() || !slices.Equal(c.Suites, from.Suites) {
		return choice{}, false
	}
	_, err = os.Stat(filepath.Join(s.dir, c.Dir))
	return c, err == nil
}

func (s *store) chosenFile(name string) string {
	return filepath.Join(s.dir, "chosen", name+".json")
}

// choose tries the suites in order. What went wrong with a candidate is progress,
// not an error, as long as another one can be had.
func (s *store) choose(ctx context.Context, a arch, from source, unpack unpacker) (pkg, string, error) {
	var last error
	for _, suite := range from.Suites {
		ar, pkgs, err := s.index(ctx, suite, a)
		if err != nil {
			return pkg{}, "", err
		}
		found := candidates(pkgs, from.Package.Regexp)
		for _, p := range found[:min(len(found), maxCandidates)] {
			dir, err := s.take(ctx, ar, p, unpack)
			if err == nil {
				return p, dir, nil
			}
			if ctx.Err() != nil {
				return pkg{}, "", ctx.Err()
			}
			last = fmt.Errorf("%s: %w", p, err)
			fmt.Fprintf(s.progress, "skipping %v\n", last)
		}
	}
	if last != nil {
		return pkg{}, "", fmt.Errorf("every candidate was skipped, try --refresh; the last: %w", last)
	}
	return pkg{}, "", fmt.Errorf("no package %s for %s in %v", from.Package, a, from.Suites)
}

// index opens an archive; its index is fetched when missing, and once a run with
// refresh.
func (s *store) index(ctx context.Context, suite string, a arch) (archive, []pkg, error) {
	name := suite + "-" + string(a)
	ar := archive{root: filepath.Join(s.dir, "apt", name), suite: suite, arch: a}
	if !ar.indexed() || s.refresh && !s.updated[name] {
		var err error
		if ar.mirrors, err = machineMirrors(ctx, s.mirrors); err != nil {
			return archive{}, nil, err
		}
		fmt.Fprintf(s.progress, "fetching index of %s %s\n", suite, a)
		if err := ar.update(ctx); err != nil {
			return archive{}, nil, err
		}
		if s.updated == nil {
			s.updated = make(map[string]bool)
		}
		s.updated[name] = true
	}
	pkgs, err := ar.packages(ctx)
	return ar, pkgs, err
}

// take downloads and unpacks one package, unless that was done before.
func (s *store) take(ctx context.Context, ar archive, p pkg, unpack unpacker) (string, error) {
	dir := filepath.Join(string(ar.arch), p.Name+"_"+p.Version)
	final := filepath.Join(s.dir, dir)
	if _, err := os.Stat(final); err == nil {
		return dir, nil
	}

	return dir, s.download(ctx, ar, p, unpack, func(content string) error {
		if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
			return err
		}
		return os.Rename(content, final)
	})
}

// download fetches and unpacks one package, and hands over the directory with
// what was unpacked. What is left of it is removed.
func (s *store) download(ctx context.Context, ar archive, p pkg, unpack unpacker, keep func(content string) error) error {
	// Below the same directory, so that the result can be renamed into place.
	tmp, err := s.tempDir("fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	debDir, content := filepath.Join(tmp, "deb"), filepath.Join(tmp, "content")
	if err := errors.Join(os.Mkdir(debDir, 0o755), os.Mkdir(content, 0o755)); err != nil {
		return err
	}

	fmt.Fprintf(s.progress, "fetching %s\n", p)
	deb, err := ar.download(ctx, p, debDir)
	if err != nil {
		return fmt.Errorf("downloading: %w", err)
	}
	if err := unpack(ctx, deb, content); err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	return keep(content)
}

// tempDir makes a directory on the file system of the store.
func (s *store) tempDir(prefix string) (string, error) {
	dir := filepath.Join(s.dir, "tmp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, prefix)
}
