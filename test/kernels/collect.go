// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"nodegadget.dev/pkg/btf/layout"
)

// corpusOptions are the flags of the corpus command.
type corpusOptions struct {
	storeOptions
	List    string // file; empty: the one that is compiled in
	Built   bool   // build kernels that are not in the cache yet
	AtLeast int    // kernels, or it is an error
}

// collect fills <cache>/corpus with the types of many kernels, in the layout of
// BTFHub's archive. What was collected before is kept, also when the mirror has
// lost the package meanwhile.
func collect(ctx context.Context, opts corpusOptions, stdout, stderr io.Writer) error {
	kernels, list, err := opts.loadCorpus()
	if err != nil {
		return err
	}
	s := opts.open(&lineWriter{out: stderr})
	unlock, err := lockDir(ctx, filepath.Join(s.dir, "corpus"))
	if err != nil {
		return err
	}
	defer unlock()
	c, err := openCorpus(filepath.Join(opts.Cache, "corpus"), filepath.Join(s.dir, "corpus", "state.json"))
	if err != nil {
		return err
	}

	if err := c.addMatrix(ctx, s, kernels, opts.Built); err != nil {
		return err
	}
	if err := c.addLines(ctx, s, list.Kernels); err != nil {
		return err
	}
	total := c.print(stdout)
	if total < opts.AtLeast {
		return fmt.Errorf("collected %d kernels, want at least %d: see above what was skipped, or try --refresh", total, opts.AtLeast)
	}
	return nil
}

func (o corpusOptions) loadCorpus() ([]kernel, *corpusList, error) {
	data := defaultCorpus
	if o.List != "" {
		var err error
		if data, err = os.ReadFile(o.List); err != nil {
			return nil, nil, fmt.Errorf("reading corpus: %w", err)
		}
	}
	list, err := parseCorpus(data)
	if err != nil {
		return nil, nil, err
	}
	if len(o.BTF) == 0 && len(o.Kernels) == 0 {
		o.BTF = []btfState{btfPresent, btfNone}
	}
	_, kernels, err := o.load()
	return kernels, list, err
}

// addMatrix collects the kernels the tests run on. One that is built takes many
// minutes, so unless asked for it has to be there already.
func (c *corpus) addMatrix(ctx context.Context, s *store, kernels []kernel, build bool) error {
	for _, k := range kernels {
		image, ok := s.cached(k)
		switch {
		case k.Build != "" && !build:
			if !ok {
				fmt.Fprintf(s.progress, "leaving out %s: not built yet, see --built\n", k.Name)
				continue
			}
		case !ok || s.refresh:
			var err error
			if image, err = s.kernel(ctx, k); err != nil {
				return err
			}
		}
		if err := c.addImage(ctx, k, image); err != nil {
			return fmt.Errorf("collecting kernel %s: %w", k.Name, err)
		}
	}
	return nil
}

// addImage collects a kernel from the cache. A built one is not Debian's.
func (c *corpus) addImage(ctx context.Context, k kernel, image kernelImage) error {
	// The directory tells builds of the same source apart.
	key := packageKey(k.Arch, image.Package) + " " + filepath.Base(filepath.Dir(image.Boot))
	if k.Build == "" {
		key = packageKey(k.Arch, image.Package)
	}
	if c.has(key) {
		return nil
	}
	boot, err := os.ReadFile(image.Boot)
	if err != nil {
		return err
	}
	btf, err := os.ReadFile(image.BTF)
	if err != nil {
		return err
	}
	name := layout.Kernel{Distro: "nodegadget", Release: "1"}
	if k.Build == "" {
		if name, err = debianName(k.Source.Suites); err != nil {
			return err
		}
	}
	return c.add(ctx, key, name, k.Arch, boot, btf)
}

func debianName(suites []string) (layout.Kernel, error) {
	dir, err := releaseDir(suites)
	return layout.Kernel{Distro: "debian", Release: dir}, err
}

func packageKey(a arch, p pkg) string {
	return strings.Join([]string{string(a), p.Name, p.Version}, " ")
}

// lineWriter keeps what is written by several at a time apart.
type lineWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}
