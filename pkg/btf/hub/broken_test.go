// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// brokenFiles are files that can't be used, by the name of their kernel. The
// bounds that they offend are those of brokenOptions.
func brokenFiles(t testing.TB) map[string]struct {
	content []byte
	kind    Kind
	reason  string
} {
	raw := sampleBTF(t, "task_struct")
	good := packed(t, raw)
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 0x40
	tarXZ := func(members ...member) []byte { return compress(t, "xz", makeTar(t, members...)) }
	type broken = struct {
		content []byte
		kind    Kind
		reason  string
	}
	return map[string]broken{
		"truncated":      {good[:len(good)/2], KindBroken, "truncated"},
		"no-xz":          {[]byte("<html>404 not found</html>"), KindBroken, "format not recognized"},
		"flipped":        {flipped, KindBroken, "unpacking tar.xz"},
		"no-tar":         {compress(t, "xz", raw), KindBroken, "unexpected EOF"},
		"no-btf":         {packed(t, []byte(strings.Repeat("types", 9))), KindBroken, "begins with 0x7974"},
		"cut-btf":        {packed(t, raw[:len(raw)-2]), KindBroken, "BTF is cut off"},
		"no-bytes":       {nil, KindEmpty, "the file has no bytes"},
		"no-file":        {tarXZ(), KindEmpty, "the tar has no file"},
		"no-content":     {tarXZ(member{name: "x.btf"}), KindEmpty, "the file in the tar has no bytes"},
		"no-types":       {packed(t, emptyBTF(raw)), KindEmpty, "BTF without types"},
		"big":            {make([]byte, 64<<10+1), KindOversized, "the file has 65537 bytes, want at most 65536"},
		"big-inside":     {packed(t, make([]byte, 1<<20+1)), KindOversized, "in the tar has 1048577 bytes"},
		"bomb":           {compress(t, "xz", append(makeTar(t, member{name: "x.btf", content: raw}), make([]byte, 2<<20)...)), KindOversized, "more than 1048576 bytes"},
		"dictionary":     {withDictionary(t, good, 40), KindOversized, "a dictionary of more than 32 MiB"},
		"two-files":      {tarXZ(member{name: "a.btf", content: raw}, member{name: "b.btf", content: raw}), KindHostile, "more than one file"},
		"parent":         {tarXZ(member{name: "../a.btf", content: raw}), KindHostile, `the name has ".."`},
		"absolute":       {tarXZ(member{name: "/etc/passwd", content: raw}), KindHostile, "the name is absolute"},
		"unprintable":    {tarXZ(member{name: "a\x1b[2J.btf", content: raw}), KindHostile, "unprintable"},
		"inner-link":     {tarXZ(member{name: "a.btf", flag: tar.TypeSymlink, link: "/etc/passwd"}), KindHostile, "a symbolic link in the tar"},
		"inner-hardlink": {tarXZ(member{name: "a.btf", flag: tar.TypeLink, link: "b.btf"}), KindHostile, "a hard link in the tar"},
		"inner-device":   {tarXZ(member{name: "a.btf", flag: tar.TypeChar}), KindHostile, "a device in the tar"},
	}
}

var brokenOptions = Options{MaxPacked: 64 << 10, MaxRaw: 1 << 20}

// emptyBTF removes the types of a little-endian BTF, and leaves the strings.
func emptyBTF(raw []byte) []byte {
	h, err := parseBTFHeader(raw)
	if err != nil {
		return nil
	}
	b := append([]byte{}, raw[:h.len]...)
	h.order.PutUint32(b[12:], 0)
	h.order.PutUint32(b[16:], 0)
	return append(b, raw[h.len+h.strOff:][:h.strLen]...)
}

// decode is a visit that does what all do first.
func decode(ctx context.Context, e *Entry) error {
	_, err := e.BTF(ctx)
	return err
}

func TestWalkNamesBrokenFiles(t *testing.T) {
	dir := t.TempDir()
	var members []member
	want := map[string]Kind{}
	reasons := map[string]string{}
	for name, broken := range brokenFiles(t) {
		file := "debian/10/x86_64/" + name + ".btf.tar.xz"
		put(t, dir, file, broken.content)
		members = append(members, member{name: file, content: broken.content})
		want[file], reasons[file] = broken.kind, broken.reason
	}
	put(t, dir, focal.File(), packed(t, sampleBTF(t, "task_struct")))
	members = append(members, member{name: focal.File(), content: packed(t, sampleBTF(t, "task_struct"))})
	archive := filepath.Join(t.TempDir(), "archive.tar")
	require.NoError(t, os.WriteFile(archive, makeTar(t, members...), 0o644))

	var reports []Report
	for _, path := range []string{dir, archive} {
		for _, workers := range []int{1, 4} {
			opts := brokenOptions
			opts.Workers = workers
			report, err := Walk(t.Context(), path, opts, decode)
			require.NoError(t, err)
			require.Equal(t, 1, report.Entries)
			got := map[string]Kind{}
			for _, p := range report.Skipped {
				got[p.Path] = p.Kind
				require.Contains(t, p.Reason, reasons[p.Path], p.Path)
				require.NotContains(t, p.String(), "\n")
				require.NotContains(t, p.String(), "\x1b")
			}
			require.Equal(t, want, got)
			reports = append(reports, report)
		}
	}
	for _, report := range reports {
		require.Equal(t, reports[0], report, "the same for any source and number of workers")
	}
}

func TestWalkNamesHostileFolders(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, "20.04/x86_64/5.4.0-58-generic.btf.tar.xz", packed(t, sampleBTF(t, "task_struct")))
	put(t, dir, focal.File(), packed(t, sampleBTF(t, "task_struct")))
	put(t, dir, "ubuntu/20.04/x86_64/deeper/5.4.0.btf.tar.xz", nil)
	put(t, dir, "ubuntu/20.04/mips/5.4.0.btf.tar.xz", nil)
	put(t, dir, "5.4.0.btf.tar.xz", nil)
	put(t, dir, "ubuntu/20.04/x86_64/a\x1b[31mred.btf.tar.xz", nil)
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "ubuntu/20.04/x86_64/fifo.btf.tar.xz"), 0o644))
	for name, target := range map[string]string{
		"centos":                              outside,
		"ol":                                  "../" + filepath.Base(filepath.Dir(outside)) + "/outside",
		"loop":                                "loop",
		"sles":                                "ubuntu",
		"ubuntu/focal":                        "20.04",
		"ubuntu/20.04/x86_64/out.btf.tar.xz":  filepath.Join(outside, "20.04/x86_64/5.4.0-58-generic.btf.tar.xz"),
		"ubuntu/20.04/x86_64/in.btf.tar.xz":   "5.4.0-58-generic.btf.tar.xz",
		"ubuntu/20.04/x86_64/gone.btf.tar.xz": "gone",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
	}

	var visited []string
	report, err := Walk(t.Context(), dir, Options{Workers: 1}, func(ctx context.Context, e *Entry) error {
		visited = append(visited, e.Path)
		return decode(ctx, e)
	})
	require.NoError(t, err)
	require.Equal(t, []string{focal.File()}, visited)
	require.Equal(t, 2, report.Aliases)
	require.Equal(t, []string{
		`"ubuntu/20.04/x86_64/a\x1b[31mred.btf.tar.xz": hostile`,
		"5.4.0.btf.tar.xz: misplaced",
		"centos: hostile",
		"loop: hostile",
		"ol: hostile",
		"ubuntu/20.04/mips/5.4.0.btf.tar.xz: misplaced",
		"ubuntu/20.04/x86_64/deeper/5.4.0.btf.tar.xz: misplaced",
		"ubuntu/20.04/x86_64/fifo.btf.tar.xz: hostile",
		"ubuntu/20.04/x86_64/gone.btf.tar.xz: unsupported",
		"ubuntu/20.04/x86_64/in.btf.tar.xz: unsupported",
		"ubuntu/20.04/x86_64/out.btf.tar.xz: hostile",
	}, kinds(report))
}

func kinds(r Report) []string {
	var out []string
	for _, p := range r.Skipped {
		out = append(out, fmt.Sprintf("%s: %s", p.Path, p.Kind))
	}
	return out
}

func TestWalkNamesHostileMembers(t *testing.T) {
	good := packed(t, sampleBTF(t, "task_struct"))
	archive := filepath.Join(t.TempDir(), "archive.tar")
	require.NoError(t, os.WriteFile(archive, makeTar(t,
		member{flag: tar.TypeXGlobalHeader},
		member{name: "hub/", flag: tar.TypeDir},
		member{name: "hub/README.md", content: []byte("read me")},
		member{name: "hub/.github/workflows/ubuntu/20.04/x86_64/ci.btf.tar.xz", content: good},
		member{name: "hub/" + focal.File(), content: good},
		member{name: "hub/ubuntu/focal", flag: tar.TypeSymlink, link: "20.04"},
		member{name: "hub/ol", flag: tar.TypeSymlink, link: "../../etc"},
		member{name: "hub/rhel", flag: tar.TypeSymlink, link: "/etc"},
		member{name: "../ubuntu/20.04/x86_64/up.btf.tar.xz", content: good},
		member{name: "/ubuntu/20.04/x86_64/absolute.btf.tar.xz", content: good},
		member{name: "hub/../../etc/cron.d/job", content: good},
		member{name: "hub/ubuntu/20.04/x86_64/a\nb.btf", content: good},
		member{name: "hub/ubuntu/20.04/x86_64/hard.btf", flag: tar.TypeLink, link: "hub/" + focal.File()},
		member{name: "hub/ubuntu/20.04/x86_64/link.btf", flag: tar.TypeSymlink, link: "5.4.0"},
		member{name: "hub/null", flag: tar.TypeChar},
		member{name: "hub/fifo", flag: tar.TypeFifo},
	), 0o644))
	report, err := Walk(t.Context(), archive, Options{}, decode)
	require.NoError(t, err)
	require.Equal(t, 1, report.Entries)
	require.Equal(t, 1, report.Aliases)
	require.Equal(t, []string{
		`"hub/ubuntu/20.04/x86_64/a\nb.btf": hostile`,
		"../ubuntu/20.04/x86_64/up.btf.tar.xz: hostile",
		"/ubuntu/20.04/x86_64/absolute.btf.tar.xz: hostile",
		"hub/../../etc/cron.d/job: hostile",
		"hub/fifo: hostile",
		"hub/null: hostile",
		"hub/ol: hostile",
		"hub/rhel: hostile",
		"hub/ubuntu/20.04/x86_64/hard.btf: hostile",
		"hub/ubuntu/20.04/x86_64/link.btf: unsupported",
	}, kinds(report))
}

// A worker's memory stays below 64 MiB whatever the file is.
func TestMemoryIsBounded(t *testing.T) {
	// An xz file may be several, one after another. So a bomb is cheap to make.
	const mebibyte = 1 << 20
	zeros := compress(t, "xz", make([]byte, mebibyte))
	bomb := func(promised, delivered int64) []byte {
		var head bytes.Buffer
		w := tar.NewWriter(&head)
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "5.4.0.btf", Size: promised}))
		return append(compress(t, "xz", head.Bytes()), bytes.Repeat(zeros, int(delivered/mebibyte))...)
	}
	for name, content := range map[string][]byte{
		"too many zeros":   bomb(100*mebibyte, 100*mebibyte),
		"more than said":   bomb(mebibyte, 100*mebibyte),
		"as many as go":    bomb(DefaultMaxRaw, DefaultMaxRaw+mebibyte),
		"promised and cut": bomb(DefaultMaxRaw, 0),
		"big dictionary":   withDictionary(t, bomb(mebibyte, 2*mebibyte), 26), // 32 MiB
		"huge dictionary":  withDictionary(t, bomb(mebibyte, 2*mebibyte), 40),
	} {
		dir := t.TempDir()
		put(t, dir, focal.File(), content)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		report, err := Walk(t.Context(), dir, Options{Workers: 1}, decode)
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		require.Len(t, report.Skipped, 1, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), name)
	}
}

func TestContentErrorKeepsItsCause(t *testing.T) {
	cause := errors.New("no such type")
	err := fmt.Errorf("tailoring: %w", Broken(cause))
	require.ErrorIs(t, err, cause)
	var content *ContentError
	require.ErrorAs(t, err, &content)
	require.Equal(t, KindBroken, content.Kind)
}
