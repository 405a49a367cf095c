// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os/exec"
	"strings"
	"testing"
)

// testELF stands for a kernel.
var testELF = []byte("\x7fELF" + strings.Repeat("kernel ", 1000))

// compressed compresses with the program of that name, or skips the test.
func compressed(t *testing.T, data []byte, name string, args ...string) []byte {
	t.Helper()
	if name == "gzip" {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// bzImage wraps a payload as the x86 boot protocol has it.
func bzImage(payload []byte, size uint32) []byte {
	const sectors, offset = 3, 100
	b := make([]byte, (sectors+1)*512+offset)
	b[0x1f1] = sectors
	copy(b[0x202:], "HdrS")
	if !bytes.HasPrefix(payload, []byte(gzipMagic)) {
		payload = binary.LittleEndian.AppendUint32(bytes.Clone(payload), size)
	}
	binary.LittleEndian.PutUint32(b[0x248:], offset)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(append(b, payload...), "signature"...)
}

// zboot wraps a payload as an EFI self-extracting image.
func zboot(payload []byte) []byte {
	b := make([]byte, 64)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[8:], 64)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	return append(append(b, payload...), "trailer"...)
}

func TestUnpackImage(t *testing.T) {
	for _, c := range [][]string{
		{"gzip"},
		{"xz", "-c", "--check=crc32"},
		{"zstd", "-c", "-q"},
		{"lz4", "-l", "-c", "-q"},
	} {
		t.Run(c[0], func(t *testing.T) {
			payload := compressed(t, testELF, c[0], c[1:]...)
			for kind, image := range map[string][]byte{
				"bzImage": bzImage(payload, uint32(len(testELF))),
				"zboot":   zboot(payload),
			} {
				got, err := unpackImage(t.Context(), image)
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				} else if !bytes.Equal(got, testELF) {
					t.Errorf("%s: got %d bytes, want %d", kind, len(got), len(testELF))
				}
			}
		})
	}
}

func TestUnpackImageUncompressed(t *testing.T) {
	flat := append(make([]byte, 0x38), "ARM\x64 and so on"...)
	for name, image := range map[string][]byte{
		"ELF":   testELF,
		"Image": flat,
	} {
		got, err := unpackImage(t.Context(), image)
		if err != nil || !bytes.Equal(got, image) {
			t.Errorf("%s: %d bytes, error %v", name, len(got), err)
		}
	}
	got, err := unpackImage(t.Context(), compressed(t, flat, "gzip"))
	if err != nil || !bytes.Equal(got, flat) {
		t.Errorf("gzip: %d bytes, error %v", len(got), err)
	}
}

func TestUnpackImageErrors(t *testing.T) {
	payload := compressed(t, testELF, "gzip")
	whole := bzImage(payload, 0)
	empty := bzImage(nil, 0)
	binary.LittleEndian.PutUint32(empty[0x24c:], 2)
	for _, tc := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"nothing", nil, "unknown kernel image format"},
		{"text", []byte("hello"), "unknown kernel image format"},
		{"cut", whole[:0x600], "unexpected EOF"},
		{"header only", whole[:0x206], "unexpected EOF"},
		{"no payload", empty, "empty payload"},
		{"unknown compression", bzImage([]byte("BZh91AY"), 7), "unknown compression"},
		{"gzip cut", zboot(payload[:40]), "gzip: unexpected EOF"},
		{"gzip header", zboot(payload[:2]), "gzip:"},
		{"zboot cut", zboot(payload)[:80], "unexpected EOF"},
		{"damaged xz", zboot([]byte("\xfd7zXZ\x00damaged")), "xz"},
	} {
		_, err := unpackImage(t.Context(), tc.image)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want one with %q", tc.name, err, tc.want)
		}
	}
}

func TestUnpackImageChecksSize(t *testing.T) {
	payload := compressed(t, testELF, "xz", "-c")
	_, err := unpackImage(t.Context(), bzImage(payload, 5))
	if err == nil || !strings.Contains(err.Error(), "the header promises 5") {
		t.Errorf("error is %v, want one about the size", err)
	}
}
