// SPDX-License-Identifier: Apache-2.0

package cpio

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestGolden(t *testing.T) {
	var buf bytes.Buffer
	c := NewWriter(&buf)
	c.File("/a", 0o644, 3, strings.NewReader("abc"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	want := "070701" + // magic
		"00000001" + "000081a4" + "00000000" + "00000000" + // inode, mode, uid, gid
		"00000001" + "00000000" + "00000003" + // links, mtime, size
		"00000000" + "00000000" + "00000000" + "00000000" + // device of the file, device it is
		"00000002" + "00000000" + "a\x00" + // length of name, checksum, name
		"abc\x00" +
		"070701" + "00000001" + strings.Repeat("00000000", 3) + "00000001" + strings.Repeat("00000000", 6) +
		"0000000b" + "00000000" + "TRAILER!!!\x00" + "\x00\x00\x00"
	if got := buf.String(); got != want {
		t.Errorf("archive is\n%q, want\n%q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	c := NewWriter(&buf)
	c.CharDevice("/dev/console", 0o600, 5, 1)
	c.Dir("/proc/")
	c.File("/usr/share/x", 0o755, 5, strings.NewReader("12345"))
	c.File("usr/share/empty", 0o600, 0, strings.NewReader(""))
	c.Symlink("/sbin", "/bin")
	c.Dir("/usr")
	c.Dir("/")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := List(&buf)
	if err != nil {
		t.Fatal(err)
	}
	want := `040755 dev 0,0 ""
020600 dev/console 5,1 ""
040755 proc 0,0 ""
040755 usr 0,0 ""
040755 usr/share 0,0 ""
100755 usr/share/x 0,0 "12345"
100600 usr/share/empty 0,0 ""
120777 sbin 0,0 "/bin"
`
	if got != want {
		t.Errorf("archive has\n%s, want\n%s", got, want)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestErrors(t *testing.T) {
	for name, want := range map[string]string{
		"short":  "f: unexpected EOF",
		"huge":   "f: 5000000000 bytes do not fit into an initramfs",
		"broken": "disk full",
	} {
		w := io.Discard
		size := int64(3)
		switch name {
		case "short":
			size = 4
		case "huge":
			size = 5e9
		case "broken":
			w = brokenWriter{}
		}
		c := NewWriter(w)
		c.File("f", 0o644, size, strings.NewReader("abc"))
		if err := c.Close(); err == nil || err.Error() != want {
			t.Errorf("%s: error is %v, want %q", name, err, want)
		}
	}
}
