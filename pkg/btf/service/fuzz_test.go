// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireAnswer holds for whatever was asked: an answer that the document knows,
// and no panic behind it.
func requireAnswer(t *testing.T, s *Server, w *httptest.ResponseRecorder) {
	t.Helper()
	switch w.Code {
	case 200, 400, 404, 405, 409, 413, 415:
	default:
		require.Fail(t, "unexpected status", "%d: %s", w.Code, w.Body)
	}
	if w.Code != 200 {
		require.Regexp(t, `^[ -~]+\n$`, w.Body.String())
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	}
	require.True(t, s.limits.requests.TryAcquire(int64(s.opts.Concurrency+s.opts.Queue)), "let go of")
	s.limits.requests.Release(int64(s.opts.Concurrency + s.opts.Queue))
}

func FuzzUpload(f *testing.F) {
	s := server(f, Options{MaxObject: 1 << 20})
	f.Add(octetStream, object(f))
	f.Add("application/x-elf", object(f)[:1000])
	f.Add("", elfFor(247))
	contentType, two := form(f, "object", object(f), []byte("x"))
	f.Add(contentType, two)
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"object\"; filename=\"\x1b\"\r\n\r\nx\r\n--x--"))
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"object\"\r\n\r\n--x--"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		for _, target := range []string{"/v1/tailor", "/v1/bundle"} {
			requireAnswer(t, s, call(s, "POST", target+query(focal), contentType, body))
		}
	})
}

func FuzzTarget(f *testing.F) {
	s := server(f, Options{})
	f.Add("GET", "/v1/kernels", "distro=ubuntu&arch=amd64")
	f.Add("GET", "/v1/btf/ubuntu/20.04/x86_64/../..", "")
	f.Add("POST", "/v1/tailor", "arch=x86_64&kernel=%2e%2e%00")
	f.Add("GET", "/api/v1/download", "distribution=ubuntu&distribution_version=20.04&kernel_version=x;y&arch=x86_64")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		if strings.HasPrefix(path, "/metrics") || !strings.HasPrefix(path, "/") {
			return
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != 307 && w.Code != 301 && method != "HEAD" { // paths that net/http cleans
			requireAnswer(t, s, w)
		}
	})
}
