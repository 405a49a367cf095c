// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The files in testdata were made by the usual tools: gzip -n, bzip2, xz,
// xz --x86 (the filter that the kernel's build uses), xz --format=lzma, zstd,
// lz4, lz4 -l.
const text = "the quick brown fox jumps over the lazy dog\n"

var formats = map[string]Format{
	"text.gz": Gzip, "text.bz2": Bzip2, "text.xz": XZ, "text.x86.xz": XZ, "text.lzma": LZMA,
	"text.zst": Zstd, "text.lz4": LZ4, "text.frame.lz4": LZ4, "text": None,
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return b
}

func TestReader(t *testing.T) {
	for name, want := range formats {
		r, format, err := Reader(bytes.NewReader(testdata(t, name)))
		require.NoError(t, err, name)
		require.Equal(t, want, format, name)
		got, err := io.ReadAll(r)
		require.NoError(t, err, name)
		require.Equal(t, text, string(got), name)
		require.NoError(t, r.Close())
	}
	r, format, err := Reader(strings.NewReader(""))
	require.NoError(t, err)
	require.Equal(t, None, format)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Empty(t, got)
	_, _, err = Reader(io.MultiReader(strings.NewReader("ab"), failing{}))
	require.ErrorIs(t, err, errFailing)
}

var errFailing = errors.New("cable pulled")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errFailing }

func TestFirst(t *testing.T) {
	for name, format := range formats {
		if format == None {
			continue
		}
		b := testdata(t, name)
		got, _, err := First(b, int64(len(text)))
		require.NoError(t, err, name)
		require.Equal(t, text, string(got), name)

		_, _, err = First(b, int64(len(text)-1))
		require.ErrorContains(t, err, "more than 43 bytes", name)

		if name != "text.lz4" { // which has no end
			_, _, err = First(b[:len(b)-6], 1000)
			require.Error(t, err, name)
		}
		if format == Gzip || format == XZ {
			got, _, err = First(append(b, "padding"...), 1000)
			require.NoError(t, err, name)
			require.Equal(t, text, string(got), name)
		}
	}
	_, _, err := First([]byte("\x1b[2Jtext"), 1000)
	require.ErrorContains(t, err, `unknown compression: it begins with "\x1b[2Jtext"`)
	_, _, err = First(nil, 1000)
	require.ErrorContains(t, err, "unknown compression")
}

// A header may ask for gigabytes.
func TestMemoryIsBounded(t *testing.T) {
	lzma := testdata(t, "text.lzma")
	binary.LittleEndian.PutUint32(lzma[1:], 1<<31)
	// A zstd frame with a window of 2 GiB and one empty block.
	zstd := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}
	for name, b := range map[string][]byte{"lzma": lzma, "zstd": zstd} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := First(b, 1000)
		runtime.ReadMemStats(&after)
		require.Error(t, err, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(160<<20), name)
	}
}

func arMember(name, content string) string {
	pad := strings.Repeat("\n", len(content)%2)
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n%s%s", name, 0, 0, 0, 0o644, len(content), content, pad)
}

func TestAr(t *testing.T) {
	archive := ArMagic + arMember("debian-binary", "2.0\n") + arMember("odd/", "abc") + arMember("last", "x")
	ar, err := NewAr(strings.NewReader(archive))
	require.NoError(t, err)
	var names []string
	for {
		name, content, err := ar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, name)
		if name == "odd" { // the others are skipped unread
			b, err := io.ReadAll(content)
			require.NoError(t, err)
			require.Equal(t, "abc", string(b))
		}
	}
	require.Equal(t, []string{"debian-binary", "odd", "last"}, names)

	for _, test := range []struct{ archive, want string }{
		{"", "unexpected EOF"},
		{"!<thin>\n", `begins with "!<thin>\n"`},
		{archive[:40], "unexpected EOF"},
		{archive[:69], "unexpected EOF"},
		{ArMagic + strings.Repeat("\x1b", 60), `no member's header: "\x1b`},
		{ArMagic + strings.Replace(arMember("a", ""), "0         `", "-1        `", 1), "no member's header"},
		{ArMagic + strings.Replace(arMember("a", ""), "0         `", "9999999999`", 1), "unexpected EOF"},
	} {
		require.ErrorContains(t, readAr(strings.NewReader(test.archive)), test.want)
	}
}

// readAr reads all members, and returns the first error.
func readAr(r io.Reader) error {
	ar, err := NewAr(r)
	for err == nil {
		_, _, err = ar.Next()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func cpioMember(name string, mode int, content string) string {
	m := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	m += strings.Repeat("\x00", -len(m)&3) + content
	return m + strings.Repeat("\x00", -len(content)&3)
}

func TestCPIO(t *testing.T) {
	archive := cpioMember("boot", 0o40755, "") + cpioMember("./boot/a", 0o100644, "abcde") +
		cpioMember("link", 0o120777, "./boot/a") + cpioMember("b", 0o100644, "xyz") + cpioMember("TRAILER!!!", 0, "")
	c := NewCPIO(strings.NewReader(archive))
	name, size, content, err := c.Next()
	require.NoError(t, err)
	require.Equal(t, "./boot/a", name)
	require.Equal(t, int64(5), size)
	b, err := io.ReadAll(content)
	require.NoError(t, err)
	require.Equal(t, "abcde", string(b))
	name, _, _, err = c.Next()
	require.NoError(t, err)
	require.Equal(t, "b", name)
	_, _, _, err = c.Next()
	require.ErrorIs(t, err, io.EOF)

	for _, test := range []struct{ archive, want string }{
		{"", "unexpected EOF"},
		{strings.Replace(archive, "070701", "07070X", 1), `begins with "07070X"`},
		{strings.Replace(archive, "07070100000001", "0707010000000g", 1)[:50], "unexpected EOF"},
		{strings.Replace(archive, "000041ed", "\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b", 1), "no member's header"},
		{strings.Replace(archive, "00000005", "7fffffff", 1), "name of 2147483647 bytes"},
		{archive[:400], "unexpected EOF"},
	} {
		require.ErrorContains(t, readCPIO(strings.NewReader(test.archive)), test.want)
	}
}

func readCPIO(r io.Reader) error {
	c := NewCPIO(r)
	for {
		if _, _, _, err := c.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// rpmPackage returns the headers of a package with some metadata.
func rpmPackage() []byte {
	header := func(tags []uint32, values ...string) []byte {
		var index, data []byte
		for i, value := range values {
			for _, field := range []uint32{tags[i], rpmString, uint32(len(data)), 1} {
				index = binary.BigEndian.AppendUint32(index, field)
			}
			data = append(data, value+"\x00"...)
		}
		out := append([]byte(rpmHeaderMagic), 0, 0, 0, 0)
		out = binary.BigEndian.AppendUint32(out, uint32(len(values)))
		out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
		return append(append(out, index...), data...)
	}
	out := append([]byte(RPMMagic), make([]byte, rpmLead-4)...)
	out = append(out, header([]uint32{1000}, "not a name")...)
	out = append(out, make([]byte, -len(out)&7)...)
	return append(out, header([]uint32{rpmName, rpmRelease, rpmVendor, 5000, rpmArch},
		"kernel", "80.el8", "CentOS", "other", "x86_64")...)
}

func TestReadRPM(t *testing.T) {
	b := rpmPackage()
	r := bytes.NewReader(append(b, "payload"...))
	p, err := ReadRPM(r)
	require.NoError(t, err)
	require.Equal(t, RPM{Name: "kernel", Release: "80.el8", Vendor: "CentOS", Arch: "x86_64"}, p)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "payload", string(rest))

	for i := range b {
		_, err := ReadRPM(bytes.NewReader(b[:i]))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	huge := bytes.Clone(b)
	binary.BigEndian.PutUint32(huge[rpmLead+12:], 1<<31)
	_, err = ReadRPM(bytes.NewReader(huge))
	require.ErrorContains(t, err, "want at most 65536 and 67108864")
	_, err = ReadRPM(bytes.NewReader(make([]byte, 200)))
	require.ErrorContains(t, err, "rpm: begins with")
	copy(huge, b)
	huge[rpmLead] = 0
	_, err = ReadRPM(bytes.NewReader(huge))
	require.ErrorContains(t, err, "rpm: signatures: begins with")
}

func FuzzAr(f *testing.F) {
	f.Add([]byte(ArMagic + arMember("debian-binary", "2.0\n") + arMember("odd", "abc")))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = readAr(bytes.NewReader(b)) })
}

func FuzzCPIO(f *testing.F) {
	f.Add([]byte(cpioMember("a", 0o100644, "abcde") + cpioMember("TRAILER!!!", 0, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewCPIO(bytes.NewReader(b))
		for total := 0; ; {
			name, _, content, err := c.Next()
			if err != nil {
				return
			}
			n, err := io.Copy(io.Discard, content)
			require.NoError(t, err)
			total += int(n) + len(name)
			require.LessOrEqual(t, total, len(b))
		}
	})
}

func FuzzReadRPM(f *testing.F) {
	f.Add(rpmPackage())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadRPM(bytes.NewReader(b))
		if err != nil {
			require.Equal(t, RPM{}, p)
		}
	})
}

func FuzzFirst(f *testing.F) {
	for name := range formats {
		f.Add(testdata(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, _, err := First(b, 1<<20)
		if err != nil {
			require.Nil(t, out)
		}
		require.LessOrEqual(t, len(out), 1<<20)
	})
}
