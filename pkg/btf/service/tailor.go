// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"

	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// maxCandidates bounds the kernels of one name that are compared. HWE kernels
// stand under two releases, RHEL's under two or three distributions.
const maxCandidates = 16

// kernelHeader names the kernel that an answer is for, which a client that left
// out the distribution may want to know.
const kernelHeader = "Btf-Kernel"

// tailor is POST /v1/tailor.
func (s *Server) tailor(w http.ResponseWriter, r *http.Request, query url.Values) error {
	want, err := named(query)
	if err != nil {
		return err
	}
	if want.Arch == "" || want.Uname == "" {
		return refuse(badQuery, "want at least the parameters arch and kernel")
	}
	done, err := s.admit(r, 0)
	if err != nil {
		return err
	}
	defer done()
	// Before the upload is read, which an unknown kernel isn't worth.
	k, err := s.choose(r.Context(), want)
	if err != nil {
		return err
	}
	needs, err := s.needs(w, r, "object", true)
	if err != nil {
		return err
	}
	small, err := s.tailored(r.Context(), needs, k)
	if err != nil {
		return err
	}
	w.Header().Set(kernelHeader, k.String())
	return sendBytes(w, octetStream, small.tag, small.btf)
}

// admit lets in a request with an upload, which takes more bytes beside that. The
// caller calls done when the request is answered; until then it counts as waiting.
func (s *Server) admit(r *http.Request, more int64) (done func(), err error) {
	size := s.maxUpload()
	if r.ContentLength > size {
		return nil, &http.MaxBytesError{Limit: size}
	}
	if r.ContentLength >= 0 {
		size = r.ContentLength
	}
	return s.limits.admit(size + more)
}

// needs reads what a request's objects need. For part and raw see upload.
func (s *Server) needs(w http.ResponseWriter, r *http.Request, part string, raw bool) (*tailor.Needs, error) {
	objects, err := s.upload(w, r, part, raw)
	if err != nil {
		return nil, err
	}
	return run(r.Context(), s.limits, func(context.Context) (*tailor.Needs, error) {
		needs, err := tailor.Parse(objects...)
		if err != nil {
			return nil, refuse(badObject, "%v", err)
		}
		return needs, nil
	})
}

// choose returns the kernel that is meant. If the distribution or its release was
// left out, all that match must have one content: another kernel's BTF would load
// and then give wrong values.
func (s *Server) choose(ctx context.Context, want layout.Kernel) (layout.Kernel, error) {
	if want.Distro != "" && want.Release != "" {
		return s.exact(want)
	}
	found, err := s.matching(url.Values{
		"distro": {want.Distro}, "release": {want.Release}, "arch": {want.Arch}, "kernel": {want.Uname},
	})
	switch {
	case err != nil:
		return layout.Kernel{}, err
	case len(found) == 0:
		return layout.Kernel{}, fmt.Errorf("kernel %.100q for %s: %w", want.Uname, want.Arch, errUnknown)
	case len(found) == 1:
		return found[0], nil
	case len(found) > maxCandidates:
		return layout.Kernel{}, refuse(ambiguous, "%d kernels match: name distro and release", len(found))
	}
	first, err := s.source(ctx, found[0])
	if err != nil {
		return layout.Kernel{}, err
	}
	for _, k := range found[1:] {
		other, err := s.source(ctx, k)
		if err != nil {
			return layout.Kernel{}, err
		}
		if other != first {
			return layout.Kernel{}, refuse(ambiguous, "these differ: %s; name distro and release", names(found))
		}
	}
	return found[0], nil
}

// source returns the digest of a kernel's raw BTF.
func (s *Server) source(ctx context.Context, k layout.Kernel) (digest, error) {
	entry, err := s.opts.Archive.entry(k)
	if err != nil {
		return digest{}, err
	}
	if d, known := s.opts.Archive.digest(entry); known {
		return d, nil
	}
	return run(ctx, s.limits, func(ctx context.Context) (digest, error) {
		_, d, err := s.opts.Archive.btf(ctx, entry)
		return d, err
	})
}

// tailored is what an upload gets for one kernel.
type tailored struct {
	btf []byte
	tag string // entity tag: the digest of needs and source
}

// tailored returns a kernel's BTF for the needs: from the cache, or made once for
// all who ask at the same time.
func (s *Server) tailored(ctx context.Context, needs *tailor.Needs, k layout.Kernel) (tailored, error) {
	entry, err := s.opts.Archive.entry(k)
	if err != nil {
		return tailored{}, err
	}
	if source, known := s.opts.Archive.digest(entry); known {
		if out, ok := s.cached(result{needs.Digest(), source}); ok {
			return out, nil
		}
	}
	// Whoever comes first may leave before the others: the work has its own end.
	done := s.flights.DoChan(fmt.Sprintf("%s/%x", needs.Digest(), entry.Digest), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Timeout)
		defer cancel()
		return run(ctx, s.limits, func(ctx context.Context) (tailored, error) { return s.make(ctx, needs, entry) })
	})
	select {
	case out := <-done:
		if out.Err != nil {
			return tailored{}, out.Err
		}
		return out.Val.(tailored), nil
	case <-ctx.Done():
		return tailored{}, ctx.Err()
	}
}

func (s *Server) cached(key result) (tailored, bool) {
	btf, ok := s.cache.get(key)
	if ok {
		s.metrics.hits.Inc()
	}
	return tailored{btf, resultTag(key)}, ok
}

// make tailors, unless another kernel with the same content was there before.
func (s *Server) make(ctx context.Context, needs *tailor.Needs, entry *hub.Entry) (tailored, error) {
	full, source, err := s.opts.Archive.btf(ctx, entry)
	if err != nil {
		return tailored{}, err
	}
	key := result{needs.Digest(), source}
	if out, ok := s.cached(key); ok {
		return out, nil
	}
	s.metrics.misses.Inc()
	btf, err := needs.Tailor(full)
	if err != nil {
		// Objects can be trusted by now, so it is the archive's.
		return tailored{}, fmt.Errorf("tailoring %s: %w", entry.Kernel, hub.Broken(err))
	}
	s.cache.add(key, btf)
	return tailored{btf, resultTag(key)}, nil
}

func resultTag(r result) string {
	hash := sha256.Sum256(append(r.needs[:], r.source[:]...))
	return entityTag(hash[:])
}
