// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/witness"
)

// smokeKernels is how many kernels a smoke run has.
const smokeKernels = 3

// Directories of ours.
const (
	archiveDir = "archive" // the corpus as it is
	rawDir     = "raw"     // and unpacked
	objectDir  = "objects"
	oursDir    = "ours"    // what btfgen tailor makes
	theirsDir  = "bpftool" // what bpftool makes
)

// corpusKernels lists the kernels of the corpus in order.
func corpusKernels(dir string) ([]layout.Kernel, error) {
	if dir == "" {
		return nil, errors.New("where is the corpus? give --corpus, or set NODEGADGET_CACHE; make corpus makes it")
	}
	var kernels []layout.Kernel
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, layout.ArchiveSuffix) {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		k, err := layout.Parse(filepath.ToSlash(name))
		if err == nil && k.File() != filepath.ToSlash(name) {
			err = fmt.Errorf("path %q: want %s", name, k.File())
		}
		kernels = append(kernels, k)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no corpus in %s: run make corpus, or give --corpus", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the corpus: %w", err)
	}
	if len(kernels) == 0 {
		return nil, fmt.Errorf("the corpus in %s has no kernels: run make corpus, or give --corpus", dir)
	}
	slices.SortFunc(kernels, layout.Kernel.Compare)
	return kernels, nil
}

// some takes n of a list, from all over it.
func some[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	var chosen []T
	for i := range n {
		chosen = append(chosen, list[i*(len(list)-1)/max(n-1, 1)])
	}
	return chosen
}

// prepare lays out objects and BTF. Unpacking is done by another process, because
// a child's peak memory, as it is counted, begins with that of its parent.
func (b *btfBench) prepare(ctx context.Context, progress io.Writer) error {
	fmt.Fprintf(progress, "unpacking the BTF of %d kernels\n", len(b.kernels))
	if err := b.layOutObjects(); err != nil {
		return err
	}
	args := []string{b.self, unpackTask, b.opts.Corpus, b.dir}
	for _, k := range b.kernels {
		args = append(args, k.File())
	}
	if _, err := runTool(ctx, args...); err != nil {
		return fmt.Errorf("unpacking the corpus: %w", err)
	}
	for _, dir := range []string{oursDir, theirsDir} {
		for _, k := range b.kernels {
			if err := os.MkdirAll(filepath.Dir(b.path(dir, k.String())), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// layOutObjects writes the gadgets, and the witnesses, which btfgen build adds by
// itself.
func (b *btfBench) layOutObjects() error {
	if err := os.CopyFS(b.path(objectDir), gadgets.Objects()); err != nil {
		return fmt.Errorf("writing objects: %w", err)
	}
	var err error
	if b.gadgets, err = filepath.Glob(b.path(objectDir, "*", "*.o")); err != nil {
		return err
	}
	for _, o := range witness.Objects() {
		path := b.path(objectDir, o.Name)
		if err := os.WriteFile(path, o.Content, 0o644); err != nil {
			return fmt.Errorf("writing objects: %w", err)
		}
		b.witnesses = append(b.witnesses, path)
	}
	b.res.Gadgets = len(b.gadgets)
	return nil
}

// unpackTask is the command by which this program starts itself: the corpus, our
// directory, and files of the corpus.
const unpackTask = "btf-unpack"

// unpackCorpus copies files of the corpus to one archive, and unpacked to another.
func unpackCorpus(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%s: want a corpus, a directory and files", unpackTask)
	}
	corpus, dir, files := args[0], args[1], args[2:]
	return parallel(runtime.NumCPU(), len(files), func(i int) error {
		if err := unpackFile(ctx, corpus, dir, files[i]); err != nil {
			return fmt.Errorf("%s: %w", files[i], err)
		}
		return nil
	})
}

func unpackFile(ctx context.Context, corpus, dir, file string) error {
	entry, err := hub.Read(corpus, file, hub.Options{})
	if err != nil {
		return err
	}
	raw, err := entry.BTF(ctx)
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		filepath.Join(dir, archiveDir, entry.Kernel.File()):                entry.Stored(),
		filepath.Join(dir, rawDir, entry.Kernel.String()+layout.RawSuffix): raw,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// parallel calls do for 0 to n-1, some at a time, and returns the first errors.
func parallel(workers, n int, do func(i int) error) error {
	jobs := make(chan int)
	errs := make([]error, workers)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := range jobs {
				if errs[w] == nil {
					errs[w] = do(i)
				}
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	running.Wait()
	return errors.Join(errs...)
}
