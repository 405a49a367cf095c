// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// The kernels of the tests' archive. HWE's has the content of focal's; RHEL's
// and CentOS's have one name and two contents.
var (
	bionic = layout.Kernel{Distro: "ubuntu", Release: "18.04", Arch: "x86_64", Uname: "4.15.0-20-generic"}
	hwe    = layout.Kernel{Distro: "ubuntu", Release: "18.04", Arch: "x86_64", Uname: "5.4.0-58-generic"}
	focal  = layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: "5.4.0-58-generic"}
	arm    = layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "arm64", Uname: "5.4.0-58-generic"}
	centos = layout.Kernel{Distro: "centos", Release: "7", Arch: "x86_64", Uname: "3.10.0-1160.el7.x86_64"}
	rhel   = layout.Kernel{Distro: "rhel", Release: "7", Arch: "x86_64", Uname: "3.10.0-1160.el7.x86_64"}
	sorted = []layout.Kernel{centos, rhel, bionic, hwe, arm, focal}
)

// contents says by a number what each kernel's BTF is.
var contents = map[layout.Kernel]uint32{bionic: 1, hwe: 2, focal: 2, arm: 3, centos: 4, rhel: 5}

// rawBTF has a task_struct with members at offsets that depend on the number.
func rawBTF(tb testing.TB, number uint32) []byte {
	tb.Helper()
	integer := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	task := &btf.Struct{Name: "task_struct", Size: 4096}
	for i, name := range []string{"pid", "tgid", "exit_code"} {
		task.Members = append(task.Members, btf.Member{Name: name, Type: integer, Offset: btf.Bits(8 * (4*number + 64*uint32(i)))})
	}
	task.Members = append(task.Members, btf.Member{
		Name: "real_parent", Type: &btf.Pointer{Target: task}, Offset: btf.Bits(8 * (1024 + 8*number)),
	})
	builder, err := btf.NewBuilder([]btf.Type{task}, nil)
	require.NoError(tb, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(tb, err)
	return raw
}

func put(tb testing.TB, dir, name string, content []byte) {
	tb.Helper()
	file := filepath.Join(dir, name)
	require.NoError(tb, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(tb, os.WriteFile(file, content, 0o644))
}

func pack(tb testing.TB, k layout.Kernel, raw []byte) []byte {
	tb.Helper()
	packed, err := hub.Pack(k, raw)
	require.NoError(tb, err)
	return packed
}

// archiveDir is a directory with the kernels above.
func archiveDir(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for k, number := range contents {
		put(tb, dir, k.File(), pack(tb, k, rawBTF(tb, number)))
	}
	return dir
}

// server makes a server without a rate, on the archive above unless opts name another.
func server(tb testing.TB, opts Options) *Server {
	tb.Helper()
	if opts.Archive == nil {
		archive, err := OpenArchive(archiveDir(tb))
		require.NoError(tb, err)
		opts.Archive = archive
	}
	if opts.Rate == 0 {
		opts.Rate = -1
	}
	s, err := New(opts)
	require.NoError(tb, err)
	return s
}

// objects are the built-in gadgets'.
func objects(tb testing.TB) []tailor.Object {
	tb.Helper()
	files, err := fs.Glob(gadgets.Objects(), "*/*.o")
	require.NoError(tb, err)
	require.NotEmpty(tb, files)
	var all []tailor.Object
	for _, file := range files {
		content, err := fs.ReadFile(gadgets.Objects(), file)
		require.NoError(tb, err)
		all = append(all, tailor.Object{Name: path.Dir(file), Content: content})
	}
	return all
}

// object is one that needs task_struct.
func object(tb testing.TB) []byte { return gadgetObject(tb, "trace_exec") }

func gadgetObject(tb testing.TB, name string) []byte {
	tb.Helper()
	for _, o := range objects(tb) {
		if o.Name == name {
			return o.Content
		}
	}
	require.FailNow(tb, "no gadget "+name)
	return nil
}

// form is a multipart body with parts of one name.
func form(tb testing.TB, name string, objects ...[]byte) (contentType string, body []byte) {
	tb.Helper()
	var out bytes.Buffer
	writer := multipart.NewWriter(&out)
	for i, content := range objects {
		part, err := writer.CreateFormFile(name, fmt.Sprintf("gadget%d.o", i))
		require.NoError(tb, err)
		_, err = part.Write(content)
		require.NoError(tb, err)
	}
	require.NoError(tb, writer.Close())
	return writer.FormDataContentType(), out.Bytes()
}

// call is a request without a network.
func call(s *Server, method, target, contentType string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, bytes.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// query names a kernel as /v1 does.
func query(k layout.Kernel) string {
	return fmt.Sprintf("?distro=%s&release=%s&arch=%s&kernel=%s", k.Distro, k.Release, k.Arch, k.Uname)
}

// small is what tailoring gives.
func small(tb testing.TB, k layout.Kernel, uploads ...[]byte) []byte {
	tb.Helper()
	var all []tailor.Object
	for _, content := range uploads {
		all = append(all, tailor.Object{Content: content})
	}
	needs, err := tailor.Parse(all...)
	require.NoError(tb, err)
	out, err := needs.Tailor(rawBTF(tb, contents[k]))
	require.NoError(tb, err)
	return out
}

// metric reads one number from /metrics, 0 if it isn't there.
func metric(tb testing.TB, s *Server, name string) float64 {
	tb.Helper()
	body := call(s, "GET", "/metrics", "", nil).Body.String()
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.*)$`).FindStringSubmatch(body)
	if match == nil {
		return 0
	}
	value, err := strconv.ParseFloat(match[1], 64)
	require.NoError(tb, err)
	return value
}

func requireProblem(tb testing.TB, w *httptest.ResponseRecorder, kind kind, detail string) {
	tb.Helper()
	require.Equal(tb, kinds[kind].status, w.Code, w.Body.String())
	require.Equal(tb, "application/problem+json", w.Header().Get("Content-Type"))
	var got struct {
		Type, Title, Detail string
		Status              int
	}
	require.NoError(tb, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(tb, typePrefix+string(kind), got.Type)
	require.Equal(tb, kinds[kind].title, got.Title)
	require.Equal(tb, w.Code, got.Status)
	require.Contains(tb, got.Detail, detail)
	require.Regexp(tb, `^[ -~]+$`, got.Detail)
	require.LessOrEqual(tb, len(got.Detail), 6*maxDetail)
}

func body(tb testing.TB, r io.Reader) string {
	tb.Helper()
	all, err := io.ReadAll(r)
	require.NoError(tb, err)
	return string(all)
}

func TestNewRefusesBadOptions(t *testing.T) {
	archive, err := OpenArchive(t.TempDir())
	require.NoError(t, err)
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{}, "no archive"},
		{Options{Archive: archive, MaxObject: -1}, "bound is negative"},
		{Options{Archive: archive, Concurrency: -1}, "bound is negative"},
		{Options{Archive: archive, Timeout: -1}, "bound is negative"},
	} {
		_, err := New(test.opts)
		require.ErrorContains(t, err, test.want)
	}
}

func TestHealth(t *testing.T) {
	full, empty := server(t, Options{}), t.TempDir()
	archive, err := OpenArchive(empty)
	require.NoError(t, err)
	bare := server(t, Options{Archive: archive})
	for _, path := range []string{"/healthz", "/monitoring/health"} {
		for _, s := range []*Server{full, bare} {
			w := call(s, "GET", path, "", nil)
			require.Equal(t, http.StatusOK, w.Code)
			require.JSONEq(t, `{"status":"ok"}`, w.Body.String())
		}
	}
	require.JSONEq(t, `{"status":"ready"}`, call(full, "GET", "/readyz", "", nil).Body.String())
	requireProblem(t, call(bare, "GET", "/readyz", "", nil), busy, "no kernels")
	full.ending.Store(true)
	requireProblem(t, call(full, "GET", "/readyz", "", nil), busy, "ending")
}

func TestMetrics(t *testing.T) {
	s := server(t, Options{})
	call(s, "POST", "/v1/tailor"+query(focal), octetStream, object(t))
	call(s, "GET", "/v1/kernels?distro=a&distro=b", "", nil)
	call(s, "BREW", "/pot%1b", "", nil)
	for name, want := range map[string]float64{
		"btfgen_archive_kernels":      6,
		"btfgen_cache_misses_total":   1,
		"btfgen_received_bytes_total": float64(len(object(t))),
		`btfgen_requests_total{code="200",method="POST",route="/v1/tailor"}`: 1,
		`btfgen_requests_total{code="400",method="GET",route="/v1/kernels"}`: 1,
		`btfgen_requests_total{code="404",method="other",route="other"}`:     1,
		`btfgen_request_seconds_count{route="/v1/tailor"}`:                   1,
		`btfgen_rejected_total{reason="bad-query"}`:                          1,
		`btfgen_requests_in_flight`:                                          1, // the one that asks
	} {
		require.Equal(t, want, metric(t, s, name), name)
	}
	require.Positive(t, metric(t, s, "btfgen_sent_bytes_total"))
	require.Positive(t, metric(t, s, "btfgen_cache_bytes"))
	require.Equal(t, http.StatusOK, call(s, "GET", "/monitoring/metrics", "", nil).Code)
}
