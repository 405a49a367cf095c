// SPDX-License-Identifier: Apache-2.0

package client

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
	"go.uber.org/goleak"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/service"
	"nodegadget.dev/pkg/btf/tailor"
)

var (
	focal = layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: "5.4.0-58-generic"}
	other = layout.Kernel{Distro: "debian", Release: "13", Arch: "x86_64", Uname: "5.4.0-58-generic"}
	// empty is BTF without types.
	empty = []byte("\x9f\xeb\x01\x00\x18\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00")
)

func rawBTF(t *testing.T, size uint32) []byte {
	t.Helper()
	integer := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	task := &btf.Struct{Name: "task_struct", Size: size, Members: []btf.Member{
		{Name: "pid", Type: integer}, {Name: "tgid", Type: integer, Offset: btf.Bits(8 * (size - 4))},
	}}
	builder, err := btf.NewBuilder([]btf.Type{task}, nil)
	require.NoError(t, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(t, err)
	return raw
}

// realService is the service with two kernels of one name and different contents.
func realService(t *testing.T) http.Handler {
	t.Helper()
	dir := t.TempDir()
	for k, size := range map[layout.Kernel]uint32{focal: 4096, other: 8192} {
		raw := rawBTF(t, size)
		var packed bytes.Buffer
		compressor, err := xz.NewWriter(&packed)
		require.NoError(t, err)
		files := tar.NewWriter(compressor)
		require.NoError(t, files.WriteHeader(&tar.Header{Name: k.Uname + ".btf", Size: int64(len(raw)), Mode: 0o644}))
		_, err = files.Write(raw)
		require.NoError(t, err)
		require.NoError(t, errors.Join(files.Close(), compressor.Close()))
		file := filepath.Join(dir, k.File())
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, packed.Bytes(), 0o644))
	}
	archive, err := service.OpenArchive(dir)
	require.NoError(t, err)
	s, err := service.New(service.Options{Archive: archive})
	require.NoError(t, err)
	return s.Handler()
}

func objects(t *testing.T, names ...string) []tailor.Object {
	t.Helper()
	var all []tailor.Object
	for _, name := range names {
		files, err := fs.Glob(gadgets.Objects(), name+"/*.o")
		require.NoError(t, err)
		require.Len(t, files, 1)
		content, err := fs.ReadFile(gadgets.Objects(), files[0])
		require.NoError(t, err)
		all = append(all, tailor.Object{Name: "/secret/path/" + name, Content: content})
	}
	return all
}

// dial makes a client of a handler, with little patience.
func dial(t *testing.T, handler http.HandlerFunc, opts Options) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	opts.URL = server.URL + opts.URL
	c, err := New(opts)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	c.firstWait = time.Millisecond
	return c
}

func TestTailorFromTheService(t *testing.T) {
	handler := realService(t)
	c := dial(t, handler.ServeHTTP, Options{})
	uploads := objects(t, "trace_exec", "trace_signal")
	needs, err := tailor.Parse(uploads...)
	require.NoError(t, err)
	want, err := needs.Tailor(rawBTF(t, 4096))
	require.NoError(t, err)
	got, err := c.Tailor(t.Context(), focal, uploads)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got, err = c.Tailor(t.Context(), layout.Kernel{Distro: "ubuntu", Arch: "x86_64", Uname: focal.Uname}, uploads)
	require.NoError(t, err)
	require.Equal(t, want, got)

	for _, test := range []struct {
		kernel   layout.Kernel
		objects  []tailor.Object
		want     string
		notFound bool
	}{
		{layout.Kernel{Arch: "x86_64", Uname: "9.9"}, uploads, "404 Not Found", true},
		{layout.Kernel{Distro: "alpine", Release: "3", Arch: "x86_64", Uname: "9.9"}, uploads, `kernel=9.9&release=3: 404 Not Found: "kernel alpine/3/x86_64/9.9`, true},
		{layout.Kernel{Arch: "x86_64", Uname: focal.Uname}, uploads, "409 Conflict", false},
		{layout.Kernel{Arch: "mips", Uname: "9.9"}, uploads, "400 Bad Request", false},
		{focal, []tailor.Object{{Content: []byte("x")}}, "400 Bad Request", false},
		{focal, nil, "no objects", false},
	} {
		_, err := c.Tailor(t.Context(), test.kernel, test.objects)
		require.ErrorContains(t, err, test.want)
		require.Equal(t, test.notFound, errors.Is(err, ErrNotFound))
	}
}

func TestUploadDoesNotTellPaths(t *testing.T) {
	_, body, err := form(objects(t, "trace_exec"))
	require.NoError(t, err)
	require.NotContains(t, string(body), "/secret/path")
}

func TestRetries(t *testing.T) {
	for _, test := range []struct {
		name     string
		statuses []int
		after    string
		timeout  time.Duration
		attempts int32
		want     string
	}{
		{"busy, then not", []int{503, 429, 200}, "", 0, 3, ""},
		{"waits as told", []int{503, 200}, "1", 0, 2, ""},
		{"told to wait too long", []int{503, 200}, "3600", 0, 1, "no time for another in 1h0m0s"},
		{"a date is no number", []int{503, 200}, "Wed, 21 Oct 2026 07:28:00 GMT", 0, 2, ""},
		{"always busy", []int{503, 503, 503, 503, 503, 503, 200}, "", 0, maxAttempts, "503 Service Unavailable"},
		{"refused", []int{400, 200}, "", 0, 1, "400 Bad Request"},
		{"broken", []int{500, 200}, "1", 0, 1, "500 Internal Server Error"},
		{"not even the service", []int{404}, "", 0, 1, "404 Not Found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var attempts atomic.Int32
			c := dial(t, func(w http.ResponseWriter, r *http.Request) {
				status := test.statuses[attempts.Add(1)-1]
				if test.after != "" {
					w.Header().Set("Retry-After", test.after)
				}
				w.WriteHeader(status)
				if status == 200 {
					w.Write(empty)
				}
			}, Options{})
			start := time.Now()
			raw, err := c.Tailor(t.Context(), focal, objects(t, "trace_exec"))
			require.Equal(t, test.attempts, attempts.Load())
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				require.ErrorContains(t, err, c.base.String())
				require.NotErrorIs(t, err, ErrNotFound)
				return
			}
			require.NoError(t, err)
			require.Equal(t, empty, raw)
			if test.after == "1" {
				require.GreaterOrEqual(t, time.Since(start), time.Second)
			}
		})
	}
}

func TestAnswersAreChecked(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"too large", func(w http.ResponseWriter, _ *http.Request) { w.Write(append(empty, make([]byte, 1000)...)) }, "more than 1000 bytes"},
		{"a page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html\t1m")
			w.Write([]byte("<html>"))
		}, `"text/html\t1m", which is not BTF`},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, "not BTF"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "500")
			w.Write(empty)
		}, "unexpected EOF"},
		{"hostile problem", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(400)
			w.Write([]byte(`{"type":"x","detail":"\u001b[1m` + strings.Repeat("x", 1000) + `"}`))
		}, `400 Bad Request: "\x1b[1mxxx`},
		{"endless problem", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(409)
			w.Write([]byte(`{"detail":"` + strings.Repeat("x", 1<<20)))
		}, "409 Conflict"},
		{"unknown status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }, ": 299"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := dial(t, test.answer, Options{MaxResponse: 1000}).Tailor(t.Context(), focal, objects(t, "trace_exec"))
			require.ErrorContains(t, err, test.want)
			require.Regexp(t, `^[ -~]+$`, err.Error())
			require.Less(t, len(err.Error()), 1200)
		})
	}
}

func TestRedirects(t *testing.T) {
	var elsewhere atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer stranger.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /moved/v1/tailor", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/here/v1/tailor", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("POST /here/v1/tailor", func(w http.ResponseWriter, r *http.Request) {
		require.NoError(t, r.ParseMultipartForm(1<<20))
		require.Len(t, r.MultipartForm.File["object"], 1)
		w.Write(empty)
	})
	mux.HandleFunc("POST /away/v1/tailor", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, stranger.URL+"/v1/tailor", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("POST /loop/v1/tailor", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.String(), http.StatusPermanentRedirect)
	})
	for path, want := range map[string]string{
		"/moved": "", "/here/": "", "/away": "refusing to go on to", "/loop": "more than 3 redirections",
	} {
		_, err := dial(t, mux.ServeHTTP, Options{URL: path}).Tailor(t.Context(), focal, objects(t, "trace_exec"))
		if want == "" {
			require.NoError(t, err, path)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
	require.Zero(t, elsewhere.Load())
}

func TestTimeouts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	defer server.Close()
	defer close(stop)
	c, err := New(Options{URL: server.URL, Timeout: 50 * time.Millisecond})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Tailor(t.Context(), focal, objects(t, "trace_exec"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, server.URL)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Tailor(ctx, focal, objects(t, "trace_exec"))
	require.ErrorIs(t, err, context.Canceled)
}

func TestCA(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.GreaterOrEqual(t, r.TLS.Version, uint16(0x0303))
		w.Write(empty)
	}))
	defer server.Close()
	server.Config.ErrorLog = nil
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, block, 0o600))

	c, err := New(Options{URL: server.URL, CAFile: ca})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Tailor(t.Context(), focal, objects(t, "trace_exec"))
	require.NoError(t, err)

	c, err = New(Options{URL: server.URL})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Tailor(t.Context(), focal, objects(t, "trace_exec"))
	require.ErrorContains(t, err, "certificate")
}

func TestNewRefuses(t *testing.T) {
	noCA := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(noCA, []byte("x"), 0o600))
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{}, "want http://host"},
		{Options{URL: "btf.example.com"}, "want http://host"},
		{Options{URL: "ftp://btf.example.com"}, "want http://host"},
		{Options{URL: "http://"}, "want http://host"},
		{Options{URL: "http://user:secret@host/"}, "want http://host"},
		{Options{URL: "http://host/?a=b"}, "want http://host"},
		{Options{URL: "http://host\x1b/"}, "invalid"},
		{Options{URL: "http://host", CAFile: noCA}, "a CA file needs https"},
		{Options{URL: "https://host", CAFile: noCA}, "no certificate in PEM"},
		{Options{URL: "https://host", CAFile: noCA + "x"}, "no such file"},
		{Options{URL: "https://host", Timeout: -1}, "negative"},
	} {
		_, err := New(test.opts)
		require.ErrorContains(t, err, test.want)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "\x1b")
	}
}
