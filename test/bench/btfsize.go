// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
)

// size is that of something that has the BTF of all kernels of the corpus.
type size struct {
	What  string
	Bytes int64
	// Different is how many contents there are; 0 if it doesn't matter.
	Different int
}

// Names that targets refer to.
const (
	sizeBundle = "the bundle"
	sizeSolid  = "a solid tar.xz of what `btfgen tailor` made"
)

// compare weighs what the tools made, and checks that ours agree.
func (b *btfBench) compare(ctx context.Context, progress io.Writer) error {
	fmt.Fprintf(progress, "packing and comparing\n")
	made, err := bundle.Open(b.path(packedBundle))
	if err != nil {
		return err
	}
	defer made.Close()
	if err := b.checkBundles(made); err != nil {
		return err
	}
	if err := b.weigh(ctx, made); err != nil {
		return err
	}
	count := grownKernels
	if b.opts.Smoke {
		count = smokeGrown
	}
	data, err := b.grow(made, count)
	if err != nil {
		return fmt.Errorf("making a bundle of %d kernels: %w", count, err)
	}
	return os.WriteFile(b.path(grownBundle), data, 0o644)
}

// checkBundles says where the three ways to tailor differ: they must not.
func (b *btfBench) checkBundles(made *bundle.Bundle) error {
	one, err := os.ReadFile(b.path(rawBundle))
	if err != nil {
		return err
	}
	other, err := os.ReadFile(b.path(packedBundle))
	if err != nil {
		return err
	}
	if !bytes.Equal(one, other) {
		b.fail(errors.New("btfgen build makes another bundle of raw files than of the archive"))
	}
	for _, k := range b.kernels {
		want, err := os.ReadFile(b.path(oursDir, k.String()+layout.RawSuffix))
		if err != nil {
			return err
		}
		got, err := made.Lookup(k)
		if err != nil {
			return err
		}
		if !bytes.Equal(want, got) {
			b.fail(fmt.Errorf("%s: btfgen build and btfgen tailor differ", k))
		}
	}
	return nil
}

func (b *btfBench) weigh(ctx context.Context, made *bundle.Bundle) error {
	info := made.Info()
	for _, dir := range []struct{ what, name, suffix, solid string }{
		{"BTF of the kernels, whole", rawDir, layout.RawSuffix, ""},
		{"the same, each as a `.btf.tar.xz`", archiveDir, layout.ArchiveSuffix, ""},
		{"what bpftool made of it", theirsDir, layout.RawSuffix, "a solid tar.xz of that"},
		{"what `btfgen tailor` made of it", oursDir, layout.RawSuffix, sizeSolid},
	} {
		if dir.name == theirsDir && b.bpftool == "" {
			continue
		}
		all, err := b.files(dir.name, dir.suffix)
		if err != nil {
			return err
		}
		all.What = dir.what
		b.res.Sizes = append(b.res.Sizes, all)
		if dir.solid == "" {
			continue
		}
		packed, err := b.solid(ctx, dir.name)
		if err != nil {
			return err
		}
		b.res.Sizes = append(b.res.Sizes, size{What: dir.solid, Bytes: packed, Different: all.Different})
	}
	b.res.Sizes = append(b.res.Sizes, size{What: sizeBundle, Bytes: info.Size, Different: info.Contents})
	return nil
}

// files adds up the kernels' files in a directory of ours.
func (b *btfBench) files(dir, suffix string) (size, error) {
	var all size
	contents := map[[sha256.Size]byte]bool{}
	for _, k := range b.kernels {
		content, err := os.ReadFile(b.path(dir, k.String()+suffix))
		if err != nil {
			return all, err
		}
		all.Bytes += int64(len(content))
		contents[sha256.Sum256(content)] = true
	}
	all.Different = len(contents)
	return all, nil
}

// solid is the size of a directory as one tar.xz, packed as well as xz can.
func (b *btfBench) solid(ctx context.Context, dir string) (int64, error) {
	file := b.path(dir + ".tar")
	tar := []string{"tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-C", b.path(dir), "-cf", file, "."}
	xz := []string{"xz", "-9e", "--keep", "--force", file}
	for _, argv := range [][]string{tar, xz} {
		if _, err := runTool(ctx, argv...); err != nil {
			return 0, err
		}
	}
	b.res.Commands = append(b.res.Commands, [2]string{"a solid tar.xz of " + dir, b.shell(tar) + "; " + b.shell(xz)})
	info, err := os.Stat(file + ".xz")
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// bytesOf is the size of what is called so; 0 if it wasn't measured.
func (res *btfResults) bytesOf(what string) int64 {
	for _, s := range res.Sizes {
		if s.What == what {
			return s.Bytes
		}
	}
	return 0
}
