// SPDX-License-Identifier: Apache-2.0

package service

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"nodegadget.dev/pkg/btf/layout"
)

func TestKernels(t *testing.T) {
	s := server(t, Options{})
	for _, test := range []struct {
		query string
		want  []layout.Kernel
	}{
		{"", sorted},
		{"?distro=&release=&arch=&kernel=", sorted},
		{"?distro=ubuntu", []layout.Kernel{bionic, hwe, arm, focal}},
		{"?distro=Ubuntu", nil},
		{"?distro=ubuntu&release=20.04", []layout.Kernel{arm, focal}},
		{"?arch=aarch64", []layout.Kernel{arm}},
		{"?kernel=" + focal.Uname, []layout.Kernel{hwe, arm, focal}},
		{query(focal), []layout.Kernel{focal}},
		{"?kernel=5.4", nil},
		{"?kernel=..%2F..", nil},
	} {
		w := call(s, "GET", "/v1/kernels"+test.query, "", nil)
		require.Equal(t, 200, w.Code, test.query)
		var got struct {
			Kernels []struct{ Distro, Release, Arch, Kernel string }
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.NotNil(t, got.Kernels, "an empty list is a list")
		require.Len(t, got.Kernels, len(test.want), test.query)
		for i, k := range got.Kernels {
			require.Equal(t, test.want[i], layout.Kernel{Distro: k.Distro, Release: k.Release, Arch: k.Arch, Uname: k.Kernel})
		}
	}
}

func TestDownload(t *testing.T) {
	s := server(t, Options{})
	stored := pack(t, arm, rawBTF(t, contents[arm]))
	for _, target := range []string{
		"/v1/btf/" + arm.String(),
		"/v1/btf/ubuntu/20.04/aarch64/" + arm.Uname,
		"/api/v1/download?distribution=ubuntu&distribution_version=20.04&arch=arm64&kernel_version=" + arm.Uname,
	} {
		w := call(s, "GET", target, "", nil)
		require.Equal(t, 200, w.Code, w.Body.String())
		require.Equal(t, stored, w.Body.Bytes())
		require.Equal(t, `attachment; filename="5.4.0-58-generic.btf.tar.xz"`, w.Header().Get("Content-Disposition"))
		tag := w.Header().Get("ETag")
		require.Regexp(t, `^"[0-9a-f]{32}"$`, tag)

		w = call(s, "HEAD", target, "", nil)
		require.Equal(t, 200, w.Code)
		require.Equal(t, tag, w.Header().Get("ETag"))

		for header, want := range map[[2]string]int{
			{"If-None-Match", tag}: 304, {"If-None-Match", `"other"`}: 200, {"Range", "bytes=0-3"}: 206, {"Range", "bytes=999999-"}: 416,
		} {
			r := httptest.NewRequest("GET", target, nil)
			r.Header.Set(header[0], header[1])
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			require.Equal(t, want, w.Code, header)
		}
	}
	require.Equal(t, "application/x-xz", call(s, "GET", "/v1/btf/"+arm.String(), "", nil).Header().Get("Content-Type"))
}

// The routes as btfhub-online's client uses them: a bare list, a query of four,
// a form with one file, and a tar.xz in return.
func TestHubRoutes(t *testing.T) {
	ts := httptest.NewServer(server(t, Options{}).Handler())
	defer ts.Close()
	response, err := http.Get(ts.URL + "/api/v1/list")
	require.NoError(t, err)
	defer response.Body.Close()
	var list []map[string]string
	require.NoError(t, json.NewDecoder(response.Body).Decode(&list))
	require.Len(t, list, len(sorted))
	require.Equal(t, map[string]string{
		"distribution": "centos", "distribution_version": "7", "arch": "x86_64", "kernel_version": "3.10.0-1160.el7.x86_64",
	}, list[0])

	target := ts.URL + "/api/v1/customize?distribution=ubuntu&distribution_version=20.04&kernel_version=" + focal.Uname + "&arch=x86_64"
	contentType, upload := form(t, "bpf", object(t))
	response, err = http.Post(target, contentType, bytes.NewReader(upload))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, 200, response.StatusCode)
	require.Equal(t, "application/octet-stream", response.Header.Get("Content-Type"))
	unpacked, err := xz.NewReader(response.Body)
	require.NoError(t, err)
	files := tar.NewReader(unpacked)
	header, err := files.Next()
	require.NoError(t, err)
	require.Equal(t, focal.Uname+".btf", header.Name)
	require.Equal(t, string(small(t, focal, object(t))), body(t, files))
	_, err = files.Next()
	require.ErrorIs(t, err, io.EOF)
}
