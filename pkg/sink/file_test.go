// SPDX-License-Identifier: Apache-2.0

package sink_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

func newFile(dir string) *sink.File {
	return sink.NewFile(sink.FileOptions{Dir: dir, Session: shopSession})
}

func shopFile(dir string) string { return filepath.Join(dir, "shop", "carts-5f2e.jsonl") }

// pids are the records of a file, by the number that they have in it.
func pids(t *testing.T, text []byte) []int {
	t.Helper()
	var all []int
	for line := range bytes.Lines(text) {
		var record struct{ Pid int }
		require.NoError(t, json.Unmarshal(line, &record), "%s", line)
		all = append(all, record.Pid)
	}
	return all
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

func TestFileHasLinesOfJSON(t *testing.T) {
	dir := t.TempDir()
	tp := tape.New(tape.Options{})
	f := newFile(dir)
	stop := start(t, f, execSpec(), tp)
	b := batchOf(7, thing(1, "sh\x1b", "sh\x00-c\x00"))
	b.Targets = []uint32{8}
	tp.Append(b, []*wire.Container{cart(), pay()})
	tp.Notice("not a record")
	tp.Append(batchOf(0, thing(2, "init", "")), nil)
	tp.Append(batchOf(99, thing(3, "who", "")), nil)
	require.Equal(t, sink.State{Written: 3}, settled(t, f, 3))
	require.NoError(t, stop())

	want := `{"node":"worker-1","namespace":"shop","pod":"cart-1","container":"web","containerID":"c0ffee","image":"cart:v1","timestamp":"2026-11-27T12:00:00.001000000Z","pid":1,"errno":1,"error":"EPERM","comm":"sh\u001b","args":["sh","-c"],"target":{"pid":2,"cgroup_id":77},"size":9223372036854775809,"failed":true,"delta":-1}
{"node":"worker-1","namespace":"","pod":"","container":"","containerID":"","image":"","timestamp":"2026-11-27T12:00:00.002000000Z","pid":2,"errno":2,"error":"ENOENT","comm":"init","args":[],"target":{"pid":3,"cgroup_id":77},"size":9223372036854775810,"failed":false,"delta":-2}
{"node":"worker-1","namespace":"","pod":"","container":"<unresolved>","containerID":"","image":"","timestamp":"2026-11-27T12:00:00.003000000Z","pid":3,"errno":0,"error":"","comm":"who","args":[],"target":{"pid":4,"cgroup_id":77},"size":9223372036854775811,"failed":true,"delta":-3}
`
	require.Equal(t, want, string(read(t, shopFile(dir))))
	for path, mode := range map[string]os.FileMode{shopFile(dir): 0o600, filepath.Join(dir, "shop"): os.ModeDir | 0o700} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode())
	}
}

func TestFileGoesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	for i := range uint32(3) {
		tp := tape.New(tape.Options{})
		f := newFile(dir)
		tp.Append(things(10*i, 10*i+10), nil)
		tp.Close()
		require.NoError(t, f.Run(t.Context(), headerOf(execSpec()), tp.Read(tape.From{})))
		require.Equal(t, sink.State{Written: 10}, f.State())
		// A crash has left half a line, longer than what is looked at at once.
		out, err := os.OpenFile(shopFile(dir), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = out.WriteString(`{"node":"` + strings.Repeat("x", 9000*int(i)))
		require.NoError(t, err)
		require.NoError(t, out.Close())
	}
	whole, _, _ := bytes.Cut(read(t, shopFile(dir)), []byte(`{"node":"xx`))
	got := pids(t, whole)
	require.Len(t, got, 30)
	for i, pid := range got {
		require.Equal(t, i, pid)
	}
}

func TestFilesRotate(t *testing.T) {
	const line, records = 320, 2000
	for _, test := range []struct {
		files int
		bytes int64
	}{{1, 10 * line}, {2, 10 * line}, {5, 20*line + 7}, {5, 1 << 20}} {
		t.Run(fmt.Sprintf("%d of %d", test.files, test.bytes), func(t *testing.T) {
			dir := t.TempDir()
			f := sink.NewFile(sink.FileOptions{Dir: dir, MaxBytes: test.bytes, MaxFiles: test.files, Session: sink.Session{Name: "carts", UID: "5f2e"}})
			tp := tape.New(tape.Options{})
			// There were more files once.
			require.NoError(t, os.Mkdir(filepath.Join(dir, "_cluster"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "_cluster", "carts-5f2e.jsonl.7"), nil, 0o600))
			for n := uint32(0); n < records; n += 50 {
				tp.Append(things(n, n+50), []*wire.Container{cart()})
			}
			tp.Close()
			require.NoError(t, f.Run(t.Context(), headerOf(execSpec()), tp.Read(tape.From{})))
			require.Equal(t, sink.State{Written: records}, f.State())

			found, err := os.ReadDir(filepath.Join(dir, "_cluster"))
			require.NoError(t, err)
			require.LessOrEqual(t, len(found), test.files)
			var all []int
			for i := len(found) - 1; i >= 0; i-- {
				path := filepath.Join(dir, "_cluster", "carts-5f2e.jsonl")
				if i > 0 {
					path += fmt.Sprint(".", i)
				}
				text := read(t, path)
				require.LessOrEqual(t, int64(len(text)), test.bytes)
				all = append(all, pids(t, text)...)
			}
			require.NotEmpty(t, all)
			for i, pid := range all {
				require.Equal(t, records-len(all)+i, pid, "the files have the last records, in order")
			}
		})
	}
}

func TestARecordLargerThanAFileIsDropped(t *testing.T) {
	dir := t.TempDir()
	f := sink.NewFile(sink.FileOptions{Dir: dir, MaxBytes: 1000, MaxFiles: 2, Session: shopSession})
	tp := tape.New(tape.Options{})
	stop := start(t, f, execSpec(), tp)
	tp.Append(batchOf(0, thing(1, "a", ""), thing(2, "b", strings.Repeat("x", 2000)+"\x00"), thing(3, "c", "")), nil)
	s := settled(t, f, 3)
	require.EqualValues(t, 1, s.Dropped)
	require.ErrorContains(t, s.Err, "larger than a file")
	tp.Append(batchOf(0, thing(4, "d", "")), nil)
	require.NoError(t, settled(t, f, 4).Err)
	require.NoError(t, stop())
}

func TestFileNamesAreNoPaths(t *testing.T) {
	for _, session := range []sink.Session{
		{Namespace: "..", Name: "a", UID: "u"},
		{Namespace: "shop", Name: "../../etc/cron.d/x", UID: "u"},
		{Namespace: "shop", Name: "a", UID: "u/../v"},
		{Namespace: "shop", Name: "", UID: "u"},
		{Namespace: "shop", Name: "a\x00b", UID: "u"},
		{Namespace: "sh op", Name: "a", UID: "u"},
		{Namespace: "shop", Name: "a", UID: ""},
		{Namespace: "shop", Name: strings.Repeat("a", 300), UID: "u"},
	} {
		t.Run(fmt.Sprint(session), func(t *testing.T) {
			dir := t.TempDir()
			f := sink.NewFile(sink.FileOptions{Dir: dir, Session: session})
			tp := tape.New(tape.Options{})
			tp.Append(things(0, 2), nil)
			err := f.Run(t.Context(), headerOf(execSpec()), tp.Read(tape.From{}))
			require.ErrorContains(t, err, "can't be part of a file's name")
			require.Equal(t, sink.State{Dropped: 2, Err: err}, f.State())
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
	t.Run("as long as names may be", func(t *testing.T) {
		dir := t.TempDir()
		f := sink.NewFile(sink.FileOptions{Dir: dir, Session: sink.Session{
			Namespace: strings.Repeat("n", 63), Name: strings.Repeat("a", 253), UID: "0e5f7a3e-7c1c-4f7d-9a56-7b7a5e0f6b1d",
		}})
		tp := tape.New(tape.Options{})
		tp.Append(things(0, 2), nil)
		tp.Close()
		require.NoError(t, f.Run(t.Context(), headerOf(execSpec()), tp.Read(tape.From{})))
		require.EqualValues(t, 2, f.State().Written)
	})
}

// TestLinksAreNotFollowed: whatever stands where files should be, nothing else is
// touched. When it is gone, the file is written.
func TestLinksAreNotFollowed(t *testing.T) {
	for _, test := range []struct {
		name, want string
		plant      func(t *testing.T, dir, victim string) (path string)
	}{
		{"the directory is a link", "not a directory", func(t *testing.T, dir, victim string) string {
			require.NoError(t, os.Symlink(filepath.Dir(victim), filepath.Join(dir, "shop")))
			return filepath.Join(dir, "shop")
		}},
		{"the directory is a link below the root", "not a directory", func(t *testing.T, dir, _ string) string {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "other"), 0o700))
			require.NoError(t, os.Symlink("other", filepath.Join(dir, "shop")))
			return filepath.Join(dir, "shop")
		}},
		{"the file is a link", "not a regular file", func(t *testing.T, dir, victim string) string {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "shop"), 0o700))
			require.NoError(t, os.Symlink(victim, shopFile(dir)))
			return shopFile(dir)
		}},
		{"the file is a pipe", "not a regular file", func(t *testing.T, dir, _ string) string {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "shop"), 0o700))
			require.NoError(t, unix.Mkfifo(shopFile(dir), 0o600))
			return shopFile(dir)
		}},
		{"the file is a directory", "not a regular file", func(t *testing.T, dir, _ string) string {
			require.NoError(t, os.MkdirAll(shopFile(dir), 0o700))
			return shopFile(dir)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
			require.NoError(t, os.WriteFile(victim, []byte("precious\n"), 0o600))
			planted := test.plant(t, dir, victim)
			f := newFile(dir)
			tp := tape.New(tape.Options{})
			stop := start(t, f, execSpec(), tp)
			require.Eventually(t, func() bool { return f.State().Err != nil }, 5*time.Second, time.Millisecond, "known before there is a record")
			tp.Append(things(0, 5), nil)
			require.ErrorContains(t, f.State().Err, test.want)
			require.Zero(t, f.State().Written)
			require.NoError(t, os.Remove(planted))
			require.Equal(t, sink.State{Written: 5}, settled(t, f, 5))
			require.NoError(t, stop())
			require.Equal(t, "precious\n", string(read(t, victim)))
			require.Len(t, pids(t, read(t, shopFile(dir))), 5)
		})
	}
}

func TestTheDirectoryMayComeLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	f := newFile(dir)
	tp := tape.New(tape.Options{Records: 100})
	stop := start(t, f, execSpec(), tp)
	tp.Append(things(0, 100), nil)
	require.Eventually(t, func() bool { return f.State().Err != nil }, 5*time.Second, time.Millisecond)
	// The tape goes on, and overtakes the output.
	for n := uint32(100); n < 2000; n += 100 {
		tp.Append(things(n, n+100), nil)
	}
	require.NotZero(t, f.State().Dropped, "what was overtaken is counted at once")
	require.NoError(t, os.Mkdir(dir, 0o700))
	s := settled(t, f, 2000)
	require.NoError(t, s.Err)
	require.EqualValues(t, len(pids(t, read(t, shopFile(dir)))), s.Written)
	require.NoError(t, stop())
}

func TestTheEndWritesWhatThereIs(t *testing.T) {
	dir := t.TempDir()
	f := newFile(dir)
	tp := tape.New(tape.Options{})
	stop := start(t, f, execSpec(), tp)
	for n := uint32(0); n < 5000; n += 100 {
		tp.Append(things(n, n+100), nil)
	}
	require.NoError(t, stop())
	require.Equal(t, sink.State{Written: 5000}, f.State())
	require.Len(t, pids(t, read(t, shopFile(dir))), 5000)
}

func TestTheEndDoesNotWaitForALostDirectory(t *testing.T) {
	f := newFile(filepath.Join(t.TempDir(), "never"))
	tp := tape.New(tape.Options{})
	stop := start(t, f, execSpec(), tp)
	tp.Append(things(0, 30), nil)
	tp.Append(things(30, 50), nil)
	require.Eventually(t, func() bool { return f.State().Err != nil }, 5*time.Second, time.Millisecond)
	begun := time.Now()
	require.NoError(t, stop())
	require.Less(t, time.Since(begun), 4*time.Second)
	require.EqualValues(t, 50, f.State().Dropped)
}

// TestFullDisk: what finds no room is written when there is some, as far as the tape
// still has it; the file has whole lines only.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 200<<10), 0o600))

	f := newFile(dir)
	tp := tape.New(tape.Options{Records: 500})
	stop := start(t, f, execSpec(), tp)
	for n := uint32(0); n < 2000; n += 100 {
		tp.Append(things(n, n+100), []*wire.Container{cart()})
		time.Sleep(5 * time.Millisecond)
	}
	require.Eventually(t, func() bool { return f.State().Err != nil }, 5*time.Second, time.Millisecond)
	require.ErrorIs(t, f.State().Err, unix.ENOSPC)
	full := f.State()
	require.NotZero(t, full.Written)
	require.Len(t, pids(t, read(t, shopFile(dir))), int(full.Written), "whole lines, each counted")

	require.NoError(t, os.Remove(ballast))
	tp.Append(things(2000, 2010), nil)
	s := settled(t, f, 2010)
	require.NoError(t, s.Err)
	require.NotZero(t, s.Dropped)
	require.NoError(t, stop())
	got := pids(t, read(t, shopFile(dir)))
	require.EqualValues(t, len(got), s.Written)
	require.IsIncreasing(t, got)
	require.Equal(t, 2009, got[len(got)-1])
}

func TestAHeaderThatCannotBeRead(t *testing.T) {
	f := newFile(t.TempDir())
	tp := tape.New(tape.Options{})
	require.ErrorContains(t, f.Run(t.Context(), &wire.Header{Gadget: &wire.Gadget{Name: "No Name"}}, tp.Read(tape.From{})), "reading the header")
	require.ErrorContains(t, f.State().Err, "reading the header")
}
