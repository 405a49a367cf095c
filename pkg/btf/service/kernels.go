// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"nodegadget.dev/pkg/btf/layout"
)

// kernels is GET /v1/kernels.
func (s *Server) kernels(w http.ResponseWriter, _ *http.Request, query url.Values) error {
	found, err := s.matching(query)
	if err != nil {
		return err
	}
	type kernel struct {
		Distro  string `json:"distro"`
		Release string `json:"release"`
		Arch    string `json:"arch"`
		Kernel  string `json:"kernel"`
	}
	all := make([]kernel, len(found))
	for i, k := range found {
		all[i] = kernel{k.Distro, k.Release, k.Arch, k.Uname}
	}
	return sendJSON(w, map[string][]kernel{"kernels": all})
}

// matching returns the kernels that have what the query names. An empty or
// missing parameter matches all.
func (s *Server) matching(query url.Values) ([]layout.Kernel, error) {
	want, err := named(query)
	if err != nil {
		return nil, err
	}
	var found []layout.Kernel
	for _, k := range s.opts.Archive.Kernels() {
		if (want.Distro == "" || want.Distro == k.Distro) && (want.Release == "" || want.Release == k.Release) &&
			(want.Arch == "" || want.Arch == k.Arch) && (want.Uname == "" || want.Uname == k.Uname) {
			found = append(found, k)
		}
	}
	return found, nil
}

// named returns what the query says of a kernel, not all of which has to be there.
func named(query url.Values) (layout.Kernel, error) {
	k := layout.Kernel{
		Distro: query.Get("distro"), Release: query.Get("release"), Arch: query.Get("arch"), Uname: query.Get("kernel"),
	}
	if k.Arch == "" {
		return k, nil
	}
	arch, err := layout.Arch(k.Arch)
	if err != nil {
		return layout.Kernel{}, refuse(badQuery, "%v", err)
	}
	k.Arch = arch
	return k, nil
}

// download is GET /v1/btf/…: the file as it is stored.
func (s *Server) download(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	k, err := s.exact(layout.Kernel{
		Distro: r.PathValue("distro"), Release: r.PathValue("release"), Arch: r.PathValue("arch"), Uname: r.PathValue("kernel"),
	})
	if err != nil {
		return err
	}
	return s.sendFile(w, r, k, "application/x-xz")
}

// exact checks a name that must be whole, and that the archive has it.
func (s *Server) exact(k layout.Kernel) (layout.Kernel, error) {
	if arch, err := layout.Arch(k.Arch); err == nil {
		k.Arch = arch
	}
	if err := k.Validate(); err != nil {
		return k, refuse(badQuery, "%v", err)
	}
	if !s.opts.Archive.has(k) {
		return k, fmt.Errorf("kernel %s: %w", k, errUnknown)
	}
	return k, nil
}

func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, k layout.Kernel, contentType string) error {
	entry, err := s.opts.Archive.entry(k)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", entityTag(entry.Digest[:]))
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", attachment(k.Uname+layout.ArchiveSuffix))
	// Knows HEAD, ranges and conditions.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(entry.Stored()))
	return nil
}

// attachment names a file for browsers. A kernel's release has nothing to escape.
func attachment(file string) string { return fmt.Sprintf("attachment; filename=%q", file) }

func entityTag(hash []byte) string { return fmt.Sprintf(`"%x"`, hash[:16]) }

func sendJSON(w http.ResponseWriter, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	// If that fails the client has gone, and nobody is there to be told.
	w.Write(append(body, '\n'))
	return nil
}

// sendBytes sends a whole answer with its tag.
func sendBytes(w http.ResponseWriter, contentType, tag string, body []byte) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Header().Set("ETag", tag)
	w.Write(body)
	return nil
}

// document is GET /v1/openapi.json.
func document(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	hash := sha256.Sum256(openAPI)
	return sendBytes(w, "application/json", entityTag(hash[:]), openAPI)
}

// healthy is GET /healthz: the process answers.
func healthy(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	return sendJSON(w, map[string]string{"status": "ok"})
}

// ready is GET /readyz: there is something to serve, and the server isn't ending.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	switch {
	case s.ending.Load():
		return refuse(busy, "the server is ending")
	case len(s.opts.Archive.Kernels()) == 0:
		return refuse(busy, "the archive has no kernels")
	}
	return sendJSON(w, map[string]string{"status": "ready"})
}

// names lists kernels for an error, not too many.
func names(kernels []layout.Kernel) string {
	const most = 5
	var list []string
	for _, k := range kernels[:min(most, len(kernels))] {
		list = append(list, k.String())
	}
	if len(kernels) > most {
		list = append(list, fmt.Sprintf("%d more", len(kernels)-most))
	}
	return strings.Join(list, ", ")
}
