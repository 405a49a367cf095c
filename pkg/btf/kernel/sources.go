// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/service/client"
	"nodegadget.dev/pkg/btf/witness"
)

// disk offers the vmlinux files where libbpf looks, below the host's root.
func (c *Chooser) disk(_ context.Context, _ request, offer func(candidate) bool, miss func(error)) {
	for _, pattern := range vmlinuxPaths {
		name := fmt.Sprintf(pattern, c.id.Release)
		cand, err := c.diskCandidate(name)
		if err != nil {
			miss(because(c.root.full(name), err))
			continue
		}
		if offer(cand) {
			return
		}
	}
}

func (c *Chooser) diskCandidate(name string) (candidate, error) {
	file, err := c.root.open(name, maxFile)
	if err != nil {
		return candidate{}, err
	}
	defer file.Close()
	return c.fileCandidate(file, c.root.full(name), OnDisk)
}

// fileCandidate refuses at once what has another kernel's build-id.
func (c *Chooser) fileCandidate(file *os.File, path string, kind SourceKind) (candidate, error) {
	content, err := readImage(file)
	if err != nil {
		return candidate{}, err
	}
	if content.installed && kind == OnDisk {
		return candidate{}, errors.New("installed for other tools by gadget-agent btf install")
	}
	same, err := compareBuildIDs(content.buildID, runningBuildID(c.places.notes))
	if err != nil {
		return candidate{}, &RefusedError{Place: path, Release: c.id.Release, Proven: true, Reason: err.Error()}
	}
	return candidate{
		raw: content.raw, full: true, proven: same,
		source: Source{Kind: kind, Path: path, Release: c.id.Release},
	}, nil
}

// archive is a collection of kernels' types.
type archive interface {
	Lookup(layout.Kernel) ([]byte, error)
	Find(arch, uname string) []layout.Kernel
	Same(a, b layout.Kernel) bool
}

// offerFrom offers what an archive has under one of the kernel's names, else the
// one content that it has under this release for any distribution. Several
// contents can't all be right.
func (c *Chooser) offerFrom(a archive, from candidate, offer func(candidate) bool, miss func(error)) {
	try := func(k layout.Kernel, kind SourceKind) bool {
		raw, err := a.Lookup(k)
		switch {
		case errors.Is(err, bundle.ErrNotFound), errors.Is(err, fs.ErrNotExist):
			return false
		case err != nil:
			miss(fmt.Errorf("%s: %s: %w", from.source.Path, k, err))
			return false
		}
		cand := from
		cand.raw, cand.source.Kind, cand.source.Entry = raw, kind, k
		return offer(cand)
	}
	names := c.id.Candidates()
	for _, k := range names {
		if try(k, from.source.Kind) {
			return
		}
	}
	found := slices.DeleteFunc(a.Find(c.id.Arch, c.id.Release), func(k layout.Kernel) bool { return slices.Contains(names, k) })
	if len(found) == 0 {
		miss(fmt.Errorf("%s: has no kernel of this name", from.source.Path))
		return
	}
	for _, k := range found[1:] {
		if !a.Same(found[0], k) {
			miss(fmt.Errorf("%s: has kernels of this name that differ, and none is this distribution's: %s", from.source.Path, list(found)))
			return
		}
	}
	kind := from.source.Kind
	if kind == Bundle {
		kind = SameName
	}
	try(found[0], kind)
}

// list names the first few kernels.
func list(kernels []layout.Kernel) string {
	const most = 4
	var names []string
	for _, k := range kernels[:min(most, len(kernels))] {
		names = append(names, k.String())
	}
	if more := len(kernels) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// openBundle opens the bundle that Options name, the image's, or the program's.
// Only one that was named must be there.
func (c *Chooser) openBundle(opts Options) (source, error) {
	path := opts.Bundle
	if path == "" {
		path = c.places.bundle
		_, err := os.Stat(path)
		switch {
		case err != nil && opts.Embedded != nil:
			b, err := bundle.New(opts.Embedded)
			return c.tolerant(b, "the built-in bundle", err), nil
		case err != nil:
			why := because(path, err)
			return func(_ context.Context, _ request, _ func(candidate) bool, miss func(error)) { miss(why) }, nil
		}
	}
	b, err := bundle.Open(path)
	if err != nil && opts.Bundle != "" {
		return nil, fmt.Errorf("opening BTF bundle: %w", err)
	}
	return c.tolerant(b, path, err), nil
}

// tolerant is the source of a bundle that may not have opened.
func (c *Chooser) tolerant(b *bundle.Bundle, path string, err error) source {
	if err != nil {
		why := because(path, err)
		return func(_ context.Context, _ request, _ func(candidate) bool, miss func(error)) { miss(why) }
	}
	c.done = append(c.done, func() { b.Close() })
	return c.bundled(b, path, Bundle)
}

// bundled offers what a bundle has, if it was made for all the objects.
func (c *Chooser) bundled(b *bundle.Bundle, path string, kind SourceKind) source {
	return func(_ context.Context, r request, offer func(candidate) bool, miss func(error)) {
		// The last is the witness. Whether it is served shows when it is asked.
		needs := r.needs.Objects()
		for _, object := range needs[:len(needs)-1] {
			if object.Relocations > 0 && !b.Serves(object.Digest) {
				miss(fmt.Errorf("%s: was not made for %s", path, object.Name))
				return
			}
		}
		c.offerFrom(b, candidate{source: Source{Kind: kind, Path: path, Tailored: true, Release: c.id.Release}}, offer, miss)
	}
}

// service offers what a BTF service tailors, by the names that the kernel may
// have and then by its release alone: the service answers that if it has one
// content under it.
func (c *Chooser) service(service *client.Client, url string, timeout time.Duration, kind SourceKind) source {
	return func(ctx context.Context, r request, offer func(candidate) bool, miss func(error)) {
		// For all names together.
		ctx, cancel := context.WithTimeout(ctx, cmp.Or(timeout, client.DefaultTimeout))
		defer cancel()
		objects := append(slices.Clone(r.objects), witness.Object(c.id.Arch))
		for _, k := range append(c.id.Candidates(), layout.Kernel{Arch: c.id.Arch, Uname: c.id.Release}) {
			raw, err := service.Tailor(ctx, k, objects)
			switch {
			case errors.Is(err, client.ErrNotFound):
				continue
			case err != nil:
				miss(err)
				return
			}
			cand := candidate{raw: raw, source: Source{Kind: kind, Path: url, Entry: k, Tailored: true, Release: c.id.Release}}
			if k.Distro == "" {
				cand.source.Entry = layout.Kernel{}
			}
			if offer(cand) {
				return
			}
		}
		miss(fmt.Errorf("%s: has no kernel of this name", url))
	}
}
