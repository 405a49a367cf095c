// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"

	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
)

// hubKernel is how btfhub-online writes a kernel.
type hubKernel struct {
	Distribution        string `json:"distribution"`
	DistributionVersion string `json:"distribution_version"`
	KernelVersion       string `json:"kernel_version"`
	Arch                string `json:"arch"`
}

// hubList is GET /api/v1/list of btfhub-online.
func (s *Server) hubList(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	found := s.opts.Archive.Kernels()
	all := make([]hubKernel, len(found))
	for i, k := range found {
		all[i] = hubKernel{k.Distro, k.Release, k.Uname, k.Arch}
	}
	return sendJSON(w, all)
}

// hubDownload is GET /api/v1/download of btfhub-online.
func (s *Server) hubDownload(w http.ResponseWriter, r *http.Request, query url.Values) error {
	k, err := s.hubNamed(query)
	if err != nil {
		return err
	}
	return s.sendFile(w, r, k, octetStream)
}

// hubCustomize is POST /api/v1/customize of btfhub-online.
func (s *Server) hubCustomize(w http.ResponseWriter, r *http.Request, query url.Values) error {
	k, err := s.hubNamed(query)
	if err != nil {
		return err
	}
	done, err := s.admit(r, 0)
	if err != nil {
		return err
	}
	defer done()
	needs, err := s.needs(w, r, "bpf", false)
	if err != nil {
		return err
	}
	small, err := s.tailored(r.Context(), needs, k)
	if err != nil {
		return err
	}
	packed, err := run(r.Context(), s.limits, func(context.Context) ([]byte, error) { return hub.Pack(k, small.btf) })
	if err != nil {
		return err
	}
	hash := sha256.Sum256(packed)
	w.Header().Set("Content-Disposition", attachment(k.Uname+layout.ArchiveSuffix))
	return sendBytes(w, octetStream, entityTag(hash[:]), packed)
}

// hubNamed reads a kernel's name, of which nothing may be missing.
func (s *Server) hubNamed(query url.Values) (layout.Kernel, error) {
	return s.exact(layout.Kernel{
		Distro: query.Get("distribution"), Release: query.Get("distribution_version"),
		Arch: query.Get("arch"), Uname: query.Get("kernel_version"),
	})
}
