// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// list prints the matrix, and what is in the cache for it.
func list(opts storeOptions, stdout io.Writer) error {
	if len(opts.BTF) == 0 {
		opts.BTF = []btfState{btfPresent, btfHidden, btfNone}
	}
	_, kernels, err := opts.load()
	if err != nil {
		return err
	}
	s := opts.open(io.Discard)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tARCH\tBTF\tPACKAGE\tCOMMENT")
	for _, k := range kernels {
		cached := "(not fetched)"
		if image, ok := s.cached(k); ok {
			cached = image.Package.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Name, k.Arch, k.BTF, cached, k.Comment)
	}
	return w.Flush()
}

// fetch fills the cache, everything a run needs included, and prints where
// things are: name, package, version, boot image, BTF, and modules if they were asked
// for.
func fetch(ctx context.Context, opts storeOptions, stdout, stderr io.Writer) error {
	m, kernels, err := opts.load()
	if err != nil {
		return err
	}
	s := opts.open(stderr)
	for _, k := range kernels {
		image, err := s.kernel(ctx, k)
		if err != nil {
			return err
		}
		if _, err := s.busybox(ctx, k.Arch, m.Busybox); err != nil {
			return err
		}
		line := []string{k.Name, image.Package.Name, image.Package.Version, image.Boot, image.BTF}
		if opts.Modules {
			modules, err := s.modules(ctx, k, image)
			if err != nil {
				return fmt.Errorf("fetching modules of kernel %s: %w", k.Name, err)
			}
			line = append(line, modules)
		}
		fmt.Fprintln(stdout, strings.Join(line, "\t"))
	}
	return nil
}
