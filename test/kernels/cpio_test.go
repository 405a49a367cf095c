// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

func TestCPIOGolden(t *testing.T) {
	var buf bytes.Buffer
	c := newCPIOWriter(&buf)
	c.file("/a", 0o644, 3, strings.NewReader("abc"))
	if err := c.close(); err != nil {
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

// readCPIO lists an archive, one line an entry.
func readCPIO(r io.Reader) (string, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	align := func(n int) int { return (n + 3) &^ 3 }
	for pos := 0; pos+110 <= len(data); {
		var field [13]int
		for i := range field {
			n, err := strconv.ParseUint(string(data[pos+6+8*i:pos+14+8*i]), 16, 32)
			if err != nil {
				return "", err
			}
			field[i] = int(n)
		}
		nameEnd := pos + 110 + field[11]
		name := string(data[pos+110 : nameEnd-1])
		content := data[align(nameEnd) : align(nameEnd)+field[6]]
		pos = align(align(nameEnd) + field[6])
		if name == "TRAILER!!!" {
			return out.String(), nil
		}
		fmt.Fprintf(&out, "%06o %s %d,%d %q\n", field[1], name, field[9], field[10], content)
	}
	return "", io.ErrUnexpectedEOF
}

func TestCPIORoundTrip(t *testing.T) {
	var buf bytes.Buffer
	c := newCPIOWriter(&buf)
	c.charDevice("/dev/console", 0o600, 5, 1)
	c.dir("/proc/")
	c.file("/usr/share/x", 0o755, 5, strings.NewReader("12345"))
	c.file("usr/share/empty", 0o600, 0, strings.NewReader(""))
	c.symlink("/sbin", "/bin")
	c.dir("/usr")
	c.dir("/")
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	got, err := readCPIO(&buf)
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

func TestCPIOErrors(t *testing.T) {
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
		c := newCPIOWriter(w)
		c.file("f", 0o644, size, strings.NewReader("abc"))
		if err := c.close(); err == nil || err.Error() != want {
			t.Errorf("%s: error is %v, want %q", name, err, want)
		}
	}
}
