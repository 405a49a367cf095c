// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"nodegadget.dev/pkg/btf/layout"
)

// collectors is how many packages are handled at a time. One is limited by the
// network and then by xz, so two keep a small machine busy.
const collectors = 2

// corpusCandidates bounds how many packages of a line are tried in vain. Mirrors
// keep less of an old release than its index says.
const corpusCandidates = 15

// found is a line with the packages it can be answered with, in the order in
// which to try them.
type found struct {
	line
	name     layout.Kernel
	packages []located
	partial  bool // an index is missing
}

// located is a package and the archive that has it.
type located struct {
	pkg
	archive archive
}

// addLines collects what the list asks for, as far as it was not answered before.
func (c *corpus) addLines(ctx context.Context, s *store, lines []line) error {
	todo, err := c.resolve(ctx, s, lines)
	if err != nil {
		return err
	}
	queue := make(chan found)
	var wg sync.WaitGroup
	for range collectors {
		wg.Go(func() {
			for f := range queue {
				if err := c.answer(ctx, s, f); err != nil {
					fmt.Fprintf(s.progress, "%s: %v\n", f.Source.Package, err)
				}
			}
		})
	}
	for _, f := range todo {
		queue <- f
	}
	close(queue)
	wg.Wait()
	return ctx.Err()
}

// resolve looks lines up in the indexes. A suite that can't be had is progress,
// not an error: the number of kernels decides.
func (c *corpus) resolve(ctx context.Context, s *store, lines []line) ([]found, error) {
	lines = slices.DeleteFunc(slices.Clone(lines), func(l line) bool { return !s.refresh && c.answered(l.question()) })
	if len(lines) == 0 {
		return nil, nil
	}
	unlock, err := lockDir(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	cache := make(indexes)
	var out []found
	for _, l := range lines {
		f := found{line: l}
		if f.name, err = debianName(l.Source.Suites); err != nil {
			return nil, err
		}
		var all []located
		for _, suite := range l.Source.Suites {
			pkgs, ok := cache.read(ctx, s, suite, l.Arch)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			all = append(all, pkgs...)
			f.partial = f.partial || !ok
		}
		f.packages = choose(all, l)
		out = append(out, f)
	}
	return out, nil
}

// indexes holds the kernels of every suite and architecture that was read; nil
// for one that can't be had.
type indexes map[string][]located

func (x indexes) read(ctx context.Context, s *store, suite string, a arch) ([]located, bool) {
	key := suite + " " + string(a)
	if pkgs, ok := x[key]; ok {
		return pkgs, pkgs != nil
	}
	ar, pkgs, err := s.index(ctx, suite, a)
	if err != nil {
		fmt.Fprintf(s.progress, "skipping %s: %v\n", key, err)
		x[key] = nil
		return nil, false
	}
	x[key] = []located{}
	for _, p := range pkgs {
		if strings.HasPrefix(p.Name, "linux-") {
			x[key] = append(x[key], located{p, ar})
		}
	}
	return x[key], true
}

// choose returns the packages of a line in the order in which to try them. One
// that several suites have is taken from the first.
func choose(all []located, l line) []located {
	matching := slices.DeleteFunc(slices.Clone(all), func(p located) bool { return !l.Source.Package.MatchString(p.Name) })
	slices.SortStableFunc(matching, func(a, b located) int { return compareVersions(b.Version, a.Version) })
	seen := make(map[string]bool)
	matching = slices.DeleteFunc(matching, func(p located) bool {
		again := seen[p.Name]
		seen[p.Name] = true
		return again
	})
	var out []located
	for _, i := range spread(len(matching), l.Take) {
		out = append(out, matching[i])
	}
	return out
}

// answer collects the kernels of one line. A line is done with as many kernels as
// it asks for, or with fewer if the rest is gone: asking again would not help.
func (c *corpus) answer(ctx context.Context, s *store, f found) error {
	got, again := 0, f.partial
	for _, p := range f.packages[:min(len(f.packages), f.Take+corpusCandidates)] {
		if got == f.Take {
			break
		}
		err := c.addPackage(ctx, s, f, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			again = again || !gone(err)
			fmt.Fprintf(s.progress, "skipping %s: %v\n", p.pkg, err)
			continue
		}
		got++
	}
	if got < f.Take && again {
		return fmt.Errorf("got %d of %d, the next run tries again", got, f.Take)
	}
	if got < f.Take {
		fmt.Fprintf(s.progress, "%s: there are only %d of %d\n", f.Source.Package, got, f.Take)
	}
	return c.setAnswered(f.question())
}

// gone reports whether the mirror no longer has a package that is in its index.
func gone(err error) bool { return strings.Contains(err.Error(), " 404 ") }

func (c *corpus) addPackage(ctx context.Context, s *store, f found, p located) error {
	key := packageKey(f.Arch, p.pkg)
	if c.has(key) {
		return nil
	}
	return s.download(ctx, p.archive, p.pkg, unpackKernel, func(content string) error {
		boot, err := os.ReadFile(filepath.Join(content, bootFile))
		if err != nil {
			return err
		}
		btf, err := os.ReadFile(filepath.Join(content, btfFile))
		if err != nil {
			return err
		}
		return c.add(ctx, key, f.name, f.Arch, boot, btf)
	})
}
