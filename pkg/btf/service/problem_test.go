// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/btf/tailor"
)

// elfFor is an ELF header of a machine, without sections.
func elfFor(machine uint16) []byte {
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(header[16:], 1)
	binary.LittleEndian.PutUint16(header[18:], machine)
	binary.LittleEndian.PutUint32(header[20:], 1)
	binary.LittleEndian.PutUint16(header[52:], 64)
	return header
}

func TestProblems(t *testing.T) {
	s := server(t, Options{MaxObject: 1 << 20, MaxObjects: 2, MaxKernels: 3})
	tailorFocal := "/v1/tailor" + query(focal)
	customize := "/api/v1/customize?distribution=ubuntu&distribution_version=20.04&arch=x86_64&kernel_version="
	good := object(t)
	goodType, goodForm := form(t, "object", good)
	bpfType, bpfForm := form(t, "bpf", good)
	manyType, many := form(t, "object", good, good, good)
	largeType, large := form(t, "object", good, make([]byte, 1<<20+1))
	emptyType, empty := form(t, "object")
	for _, test := range []struct {
		name, method, target, contentType string
		body                              []byte
		kind                              kind
		detail                            string
	}{
		{"unknown parameter", "GET", "/v1/kernels?distribution=ubuntu", "", nil, badQuery, `"distribution": want distro, release, arch, kernel`},
		{"parameter where there are none", "GET", "/healthz?x=1", "", nil, badQuery, `"x": want none`},
		{"twice", "GET", "/v1/kernels?distro=a&distro=b", "", nil, badQuery, `"distro" comes 2 times`},
		{"bad escape", "GET", "/v1/kernels?distro=%zz", "", nil, badQuery, "invalid URL escape"},
		{"bad architecture", "GET", "/v1/kernels?arch=mips", "", nil, badQuery, `"mips": want x86_64`},
		{"no kernel", "POST", "/v1/tailor?arch=x86_64", "", good, badQuery, "arch and kernel"},
		{"no architecture", "POST", "/v1/tailor?kernel=5.4", "", good, badQuery, "arch and kernel"},
		{"path as a kernel", "GET", "/v1/btf/ubuntu/20.04/x86_64/..%2F..%2Fetc", "", nil, badQuery, "kernel"},
		{"escapes as a kernel", "POST", "/v1/tailor?distro=a&release=b&arch=x86_64&kernel=%1b%5b1m%e2%80%ae", "", good, badQuery, `kernel`},
		{"missing in btfhub-online's", "GET", "/api/v1/download?distribution=ubuntu", "", nil, badQuery, "release"},

		{"no object", "POST", tailorFocal, "", nil, badObject, "object"},
		{"text", "POST", tailorFocal, "", []byte("#!/bin/sh\n"), badObject, "want an eBPF object"},
		{"not eBPF", "POST", tailorFocal, "application/x-elf", elfFor(62), badObject, "EM_X86_64"},
		{"no BTF", "POST", tailorFocal, "application/x-elf", elfFor(247), badObject, "BTF"},
		{"cut off", "POST", tailorFocal, "", good[:len(good)/2], badObject, "object"},
		{"other boundary", "POST", tailorFocal, largeType, goodForm, badObject, "reading the upload"},
		{"other part", "POST", tailorFocal, bpfType, bpfForm, badObject, `"bpf" of the form: want only parts named "object"`},
		{"no part", "POST", tailorFocal, emptyType, empty, badObject, `no part named "object"`},
		{"form cut off", "POST", tailorFocal, goodType, goodForm[:len(goodForm)-10], badObject, "reading the upload"},
		{"no boundary", "POST", tailorFocal, "multipart/form-data", goodForm, badObject, "reading the upload"},
		{"other part for btfhub-online's", "POST", customize + focal.Uname, goodType, goodForm, badObject, `want only parts named "bpf"`},

		{"no path", "GET", "/v1/nothing", "", nil, noRoute, `"/v1/nothing"`},
		{"no distribution", "GET", "/v1/btf/alpine/3/x86_64/5.4", "", nil, noKernel, "alpine/3/x86_64/5.4"},
		{"no such kernel", "POST", "/v1/tailor?arch=x86_64&kernel=9.9", "", good, noKernel, `"9.9" for x86_64`},
		{"none to bundle", "POST", "/v1/bundle?distro=alpine", goodType, goodForm, noKernel, ""},
		{"none for btfhub-online's", "POST", customize + "9.9", bpfType, bpfForm, noKernel, "9.9"},
		{"method", "DELETE", "/v1/kernels", "", nil, badMethod, `"DELETE": want GET or HEAD`},
		{"get of a post", "GET", tailorFocal, "", nil, badMethod, `"GET": want POST`},
		{"large object", "POST", tailorFocal, "", make([]byte, 1<<20+1), tooLarge, "more than 1048576 bytes"},
		{"large part", "POST", tailorFocal, largeType, large, tooLarge, "object 2 has more than 1048576 bytes"},
		{"large body", "POST", tailorFocal, "", make([]byte, 3<<20), tooLarge, "more than"},
		{"many objects", "POST", tailorFocal, manyType, many, tooLarge, "more than 2 objects"},
		{"many kernels", "POST", "/v1/bundle", goodType, goodForm, tooLarge, "6 kernels match, at most 3"},
		{"content type", "POST", tailorFocal, "application/x-www-form-urlencoded", good, badType, "application/x-elf"},
		{"bad content type", "POST", tailorFocal, "a/b/c; \x1b", good, badType, "content type"},
		{"no form", "POST", "/v1/bundle?kernel=" + focal.Uname, octetStream, good, badType, "want multipart/form-data"},
		{"no form for btfhub-online's", "POST", customize + focal.Uname, "", good, badType, `parts "bpf"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			requireProblem(t, call(s, test.method, test.target, test.contentType, test.body), test.kind, test.detail)
		})
	}
	require.Equal(t, "GET, HEAD", call(s, "DELETE", "/v1/kernels", "", nil).Header().Get("Allow"))
	require.Zero(t, metric(t, s, "btfgen_cache_misses_total"), "nothing was tailored")
	require.True(t, s.limits.requests.TryAcquire(int64(s.opts.Concurrency+s.opts.Queue)), "each was let go again")
	require.True(t, s.limits.memory.TryAcquire(s.opts.Memory))
}

func TestUnforeseenErrorsSayNothing(t *testing.T) {
	for _, test := range []struct {
		err  error
		kind kind
	}{
		{os.ErrPermission, failed},
		{context.DeadlineExceeded, busy},
		{context.Canceled, busy},
		{os.ErrDeadlineExceeded, slowUpload},
		{&http.MaxBytesError{Limit: 1}, tooLarge},
		{&panicked{"secret", nil}, failed},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("ETag", "x")
		asProblem(test.err).write(w)
		requireProblem(t, w, test.kind, "")
		require.NotContains(t, w.Body.String(), "secret")
		require.Empty(t, w.Header().Get("ETag"))
	}
}

func TestPanics(t *testing.T) {
	var log bytes.Buffer
	s := server(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	work := func(context.Context) (*tailor.Needs, error) { panic("hostile") }
	_, err := run(t.Context(), s.limits, work)
	require.ErrorContains(t, err, "hostile")
	require.NoError(t, s.limits.idle(t.Context()), "the slot is free again")
	w := httptest.NewRecorder()
	s.explain(&response{ResponseWriter: w}, err)
	requireProblem(t, w, failed, "")
	require.Contains(t, log.String(), "problem_test.go", "the stack")
}

func TestLogIsEscaped(t *testing.T) {
	var log bytes.Buffer
	s := server(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	r := httptest.NewRequest("GET", "/v1/kernels?distro=%1b%5b1m", nil)
	r.Method, r.RequestURI = "GET\r\n", "/\x1b[1m\u202e\xff"+strings.Repeat("x", 1000)
	r.Header.Set("User-Agent", "a\x1b]0;b\nfake line")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	require.Regexp(t, `^[ -~]+\n$`, log.String())
	require.Less(t, log.Len(), 1500)
	require.Contains(t, log.String(), `\x1b[1m\u202e`)

	log.Reset()
	call(s, "POST", "/v1/tailor"+query(focal), octetStream, []byte("\x1b[1m"))
	for _, want := range []string{"status=400", "method=POST", "received=4", `uri="/v1/tailor?distro=ubuntu`, "error=", "seconds=", "client=192.0.2.1:1234"} {
		require.Contains(t, log.String(), want)
	}
}
