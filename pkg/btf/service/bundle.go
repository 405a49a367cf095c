// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// skippedHeader names kernels that match and are not in the bundle.
const skippedHeader = "Btf-Skipped"

// bundle is POST /v1/bundle. Kernels whose file in the archive is broken are left
// out and named: one of them must not cost the others.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request, query url.Values) error {
	found, err := s.matching(query)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return refuse(noKernel, "no kernel matches: see /v1/kernels")
	case len(found) > s.opts.MaxKernels:
		return refuse(tooLarge, "%d kernels match, at most %d are bundled: add filters", len(found), s.opts.MaxKernels)
	}
	done, err := s.admit(r, s.opts.MaxBundle)
	if err != nil {
		return err
	}
	defer done()
	needs, err := s.needs(w, r, "object", false)
	if err != nil {
		return err
	}
	collected, err := s.collect(r.Context(), needs, found)
	if err != nil {
		return err
	}
	data, err := run(r.Context(), s.limits, func(context.Context) ([]byte, error) { return collected.writer.Encode() })
	if err != nil {
		return fmt.Errorf("making bundle: %w", err)
	}
	if len(collected.skipped) > 0 {
		w.Header().Set(skippedHeader, names(collected.skipped))
	}
	hash := sha256.Sum256(data)
	w.Header().Set("Content-Disposition", attachment("btf.bundle"))
	return sendBytes(w, octetStream, entityTag(hash[:]), data)
}

// collection is a bundle that is being filled.
type collection struct {
	limit int64

	mu      sync.Mutex
	writer  bundle.Writer
	size    int64
	skipped []layout.Kernel
	reason  error // why the last one was skipped
}

// collect tailors kernels, several at a time.
func (s *Server) collect(ctx context.Context, needs *tailor.Needs, kernels []layout.Kernel) (*collection, error) {
	c := &collection{limit: s.opts.MaxBundle}
	for _, object := range needs.Objects() {
		c.writer.Objects = append(c.writer.Objects, bundle.Object{Name: object.Name, Digest: object.Digest})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.opts.Concurrency)
	for _, k := range kernels {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			out, err := s.tailored(ctx, needs, k)
			return c.add(k, out.btf, err)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if len(c.skipped) == len(kernels) {
		return nil, c.reason
	}
	slices.SortFunc(c.skipped, layout.Kernel.Compare)
	return c, nil
}

// add takes a kernel's outcome. What it returns ends the collection.
func (c *collection) add(k layout.Kernel, btf []byte, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var content *hub.ContentError
	switch {
	case errors.As(err, &content), errors.Is(err, errUnknown):
		c.skipped, c.reason = append(c.skipped, k), err
		return nil
	case err != nil:
		return err
	}
	if c.size += int64(len(btf)); c.size > c.limit {
		return refuse(tooLarge, "the bundle would have more than %d bytes: add filters", c.limit)
	}
	return c.writer.Add(k, btf)
}
