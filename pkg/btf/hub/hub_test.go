// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
	"go.uber.org/goleak"

	"nodegadget.dev/pkg/btf/layout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// focal is the kernel that most tests use.
var focal = layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: "5.4.0-58-generic"}

// sampleBTF returns the types of a kernel whose one struct has the given name.
func sampleBTF(t testing.TB, name string) []byte {
	t.Helper()
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	b, err := btf.NewBuilder([]btf.Type{&btf.Struct{
		Name: name, Size: 8, Members: []btf.Member{{Name: "state", Type: long}},
	}}, nil)
	require.NoError(t, err)
	raw, err := b.Marshal(nil, nil)
	require.NoError(t, err)
	return raw
}

// packed returns raw in a tar.xz.
func packed(t testing.TB, raw []byte) []byte {
	t.Helper()
	b, err := pack("5.4.0.btf", raw)
	require.NoError(t, err)
	return b
}

// member is a file of a tar that a test makes. Its type is regular by default.
type member struct {
	name    string
	content []byte
	flag    byte
	link    string
}

// makeTar returns a tar of members, in their order.
func makeTar(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := &tar.Header{
			Name: m.name, Typeflag: m.flag, Linkname: m.link, Mode: 0o644,
			Size: int64(len(m.content)), ModTime: time.Unix(0, 0),
		}
		if m.flag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if m.flag == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: m.flag, PAXRecords: map[string]string{"comment": "of git"}}
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write(m.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func compress(t testing.TB, format string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "gz":
		w = gzip.NewWriter(&out)
	case "xz":
		w, err = xz.NewWriter(&out)
	case "zst":
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	default:
		return b
	}
	require.NoError(t, err)
	_, err = w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// withDictionary makes an xz file ask for another dictionary: 4 GiB for 40, the
// highest value (the format's section 5.3.1).
func withDictionary(t testing.TB, b []byte, size byte) []byte {
	t.Helper()
	b = bytes.Clone(b)
	header := b[12:][:4*(int(b[12])+1)]
	i := bytes.Index(header, []byte{0x21, 1})
	require.Positive(t, i)
	header[i+2] = size
	sum := len(header) - 4
	binary.LittleEndian.PutUint32(header[sum:], crc32.ChecksumIEEE(header[:sum]))
	return b
}

// put writes a file below dir.
func put(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, content, 0o644))
}

// realBTF returns the running kernel's types.
func realBTF(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		t.Skip("needs BTF in the kernel: ", err)
	}
	return raw
}
