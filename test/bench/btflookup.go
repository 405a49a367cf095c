// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"nodegadget.dev/pkg/btf/bundle"
)

// mostLookups is how many kernels of a bundle are looked up in a round.
const mostLookups = 500

// lookups are times of opening a bundle, looking a kernel up, and closing it, in
// milliseconds.
type lookups struct {
	Median, Slowest float64
	Count           int
}

// runLookups measures look-ups in both bundles, in turn.
func (b *btfBench) runLookups(ctx context.Context, progress io.Writer) error {
	for i := range b.res.Samples {
		s := &b.res.Samples[i]
		// What this program has in memory should not matter.
		runtime.GC()
		var err error
		if s.Corpus, err = lookUp(ctx, b.path(packedBundle)); err != nil {
			return err
		}
		if s.Grown, err = lookUp(ctx, b.path(grownBundle)); err != nil {
			return err
		}
		fmt.Fprintf(progress, "%d/%d  look-up: %.2f ms of %d kernels, %.2f ms of %d\n", i+1, b.opts.Reps,
			s.Corpus.Median, b.res.Kernels, s.Grown.Median, b.res.Grown.Kernels)
	}
	return nil
}

func lookUp(ctx context.Context, path string) (lookups, error) {
	names, err := bundle.Open(path)
	if err != nil {
		return lookups{}, err
	}
	kernels := some(names.Kernels(), mostLookups)
	if err := names.Close(); err != nil {
		return lookups{}, err
	}
	var times []float64
	for _, k := range kernels {
		begun := time.Now()
		b, err := bundle.Open(path)
		if err != nil {
			return lookups{}, err
		}
		_, err = b.Lookup(k)
		if err := errors.Join(err, b.Close()); err != nil {
			return lookups{}, fmt.Errorf("looking up %s: %w", k, err)
		}
		times = append(times, millis(time.Since(begun)))
		if ctx.Err() != nil {
			return lookups{}, errors.New("interrupted")
		}
	}
	all := spreadOf(times)
	return lookups{Median: all.Median, Slowest: all.Max, Count: all.N}, nil
}
