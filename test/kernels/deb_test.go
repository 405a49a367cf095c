// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
)

func testTar(t *testing.T, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(name)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestTarMember(t *testing.T) {
	for _, name := range []string{
		"./boot/vmlinuz-5.10.0-46-cloud-amd64",
		"./boot/vmlinux-6.1",
		"./usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz",
		"./lib/modules/7.3/vmlinux",
	} {
		data := testTar(t, "./", "./boot/", "./boot/config-5.10", "./boot/System.map-5.10", name, "./usr/share/doc/x")
		got, err := tarMember(bytes.NewReader(data), kernelMember)
		if err != nil || string(got) != name {
			t.Errorf("%s: got %q, error %v", name, got, err)
		}
	}

	none := testTar(t, "./usr/", "./usr/share/doc/linux-image/vmlinuz", "./boot/vmlinuz-/")
	if got, err := tarMember(bytes.NewReader(none), kernelMember); err == nil {
		t.Errorf("an empty package has %q", got)
	}
	if _, err := tarMember(bytes.NewReader(none[:700]), kernelMember); err == nil {
		t.Error("half a package is accepted")
	}
}
