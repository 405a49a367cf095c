// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
)

// openExplicit finds out what Options.Path names.
func (c *Chooser) openExplicit(opts Options) (err error) {
	path := opts.Path
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		c.explicit, err = c.openService(path, opts, Explicit)
		return err
	}
	fail := func(err error) error {
		return fmt.Errorf("reading BTF given by --btf: %s (%w)", reason(path, err), errNothing)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	if info.IsDir() {
		c.explicit = c.directory(path)
		return nil
	}
	isBundle, err := beginsBundle(path)
	if err != nil {
		return fail(err)
	}
	if isBundle {
		b, err := bundle.Open(path)
		if err != nil {
			return fail(err)
		}
		c.done = append(c.done, func() { b.Close() })
		c.explicit = c.bundled(b, path, Explicit)
		return nil
	}
	// Read now for the sake of the error, and again when needed.
	if _, err := readPath(path); err != nil {
		return fail(err)
	}
	c.explicit = c.file(path)
	return nil
}

func beginsBundle(path string) (bool, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer file.Close()
	if err := checkRegular(file, maxFile); err != nil {
		return false, err
	}
	var header [8]byte
	n, _ := file.ReadAt(header[:], 0)
	return n == len(header) && bundle.Is(header[:]), nil
}

// file offers a file with one kernel's types.
func (c *Chooser) file(path string) source {
	return func(_ context.Context, _ request, offer func(candidate) bool, miss func(error)) {
		file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			miss(because(path, err))
			return
		}
		defer file.Close()
		cand, err := c.fileCandidate(file, path, Explicit)
		if err != nil {
			miss(because(path, err))
			return
		}
		offer(cand)
	}
}

// directory offers <release>.btf, else the kernel's entry in BTFHub's layout.
func (c *Chooser) directory(dir string) source {
	return func(ctx context.Context, r request, offer func(candidate) bool, miss func(error)) {
		path := filepath.Join(dir, c.id.Release+layout.RawSuffix)
		if _, err := os.Stat(path); err == nil {
			c.file(path)(ctx, r, offer, miss)
			return
		}
		miss(because(path, fs.ErrNotExist))
		root, err := os.OpenRoot(dir)
		if err != nil {
			miss(because(dir, err))
			return
		}
		defer root.Close()
		from := candidate{full: true, source: Source{Kind: Explicit, Path: dir, Release: c.id.Release}}
		c.offerFrom(&folder{ctx: ctx, dir: dir, root: root}, from, offer, miss)
	}
}

// folder is a directory in BTFHub's layout.
type folder struct {
	ctx  context.Context
	dir  string
	root *os.Root
}

// Lookup reads a kernel's raw BTF.
func (f *folder) Lookup(k layout.Kernel) ([]byte, error) {
	for _, suffix := range []string{layout.ArchiveSuffix, layout.RawSuffix} {
		name := k.String() + suffix
		if _, err := f.root.Stat(name); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		entry, err := hub.Read(f.dir, name, hub.Options{})
		if err != nil {
			return nil, err
		}
		return entry.BTF(f.ctx)
	}
	return nil, fs.ErrNotExist
}

// Find lists all kernels of this name and architecture.
func (f *folder) Find(arch, uname string) []layout.Kernel {
	var found []layout.Kernel
	distros, _ := fs.ReadDir(f.root.FS(), ".")
	for _, distro := range distros {
		releases, _ := fs.ReadDir(f.root.FS(), distro.Name())
		for _, release := range releases {
			k := layout.Kernel{Distro: distro.Name(), Release: release.Name(), Arch: arch, Uname: uname}
			if k.Validate() != nil {
				continue
			}
			for _, suffix := range []string{layout.ArchiveSuffix, layout.RawSuffix} {
				if _, err := f.root.Stat(k.String() + suffix); err == nil {
					found = append(found, k)
					break
				}
			}
		}
	}
	return found
}

// Same compares contents. Kernels that can't be read are the same as none.
func (f *folder) Same(a, b layout.Kernel) bool {
	first, err := f.Lookup(a)
	if err != nil {
		return false
	}
	second, err := f.Lookup(b)
	return err == nil && sha256.Sum256(first) == sha256.Sum256(second)
}
