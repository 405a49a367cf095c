// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodegadget.dev/test/kernels/cpio"
	"nodegadget.dev/test/kernels/internal/task"
)

func TestInitramfs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"init", "busybox", "test", "tree/sub/file"} {
		if err := writeAtomically(filepath.Join(dir, name), []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sub/file", filepath.Join(dir, "tree", "link")); err != nil {
		t.Fatal(err)
	}

	fs := initramfs{
		Init: filepath.Join(dir, "init"), Busybox: filepath.Join(dir, "busybox"), Test: filepath.Join(dir, "test"),
		Task: task.Task{Args: []string{"-test.v"}},
		Add: []addition{
			{Host: filepath.Join(dir, "tree"), Guest: "/data/tree"},
			{Host: filepath.Join(dir, "tree", "link"), Guest: "/data/followed"},
		},
	}
	var buf bytes.Buffer
	if err := fs.write(&buf); err != nil {
		t.Fatal(err)
	}
	got, err := cpio.List(&buf)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`020600 dev/console 5,1 ""`,
		`100755 init 0,0 "init"`,
		`100755 bin/busybox 0,0 "busybox"`,
		`040755 test 0,0 ""`,
		`100755 test/run 0,0 "test"`,
		`120777 usr/bin 0,0 "/bin"`,
		`100644 etc/passwd 0,0 "root:x:0:0:root:/root:/bin/sh\n"`,
		`100644 etc/nodegadget-task.json 0,0 "{\"args\":[\"-test.v\"],\"env\":null}"`,
		`040755 data/tree/sub 0,0 ""`,
		`100644 data/tree/sub/file 0,0 "tree/sub/file"`,
		`120777 data/tree/link 0,0 "sub/file"`,
		`100644 data/followed 0,0 "tree/sub/file"`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}

	fs.Init = filepath.Join(dir, "nope")
	if err := fs.write(&buf); err == nil {
		t.Error("an initramfs without init is accepted")
	}
}
