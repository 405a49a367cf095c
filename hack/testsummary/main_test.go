// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestCollect(t *testing.T) {
	const in = `
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: needs kprobes\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"loud\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.01s\n"}
{"Action":"fail","Package":"p"}
{"Action":"build-output","ImportPath":"q","Output":"q.go:1: broken\n"}
{"Action":"fail","Package":"q"}
{"Action":"output","Package":"r","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"r"}
{"Action":"skip","Package":"no/tests"}
`
	want := []result{
		{"p.TestA", skipped, "a_test.go:3: needs kprobes"},
		{"p.TestB", passed, ""},
		{"p.TestC", failed, ""},
		{"q", failed, ""},
		{"r.TestHangs", failed, ""},
	}
	var out bytes.Buffer
	got, err := collect(strings.NewReader(in), &out, false)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := "loud\nFAIL\tp\t0.01s\nq.go:1: broken\npanic: test timed out\n"; out.String() != want {
		t.Errorf("got output %q, want %q", out.String(), want)
	}
}

func TestCollectMalformed(t *testing.T) {
	if _, err := collect(strings.NewReader("{"), &bytes.Buffer{}, false); err == nil {
		t.Error("got no error")
	}
}

func TestReadLogs(t *testing.T) {
	const whole = "=== RUN   TestA\n--- PASS: TestA (0.00s)\r\n" +
		"=== RUN   TestB\r\n=== RUN   TestB/x\r\n    a_test.go:3: needs kprobes\r\n" +
		"=== RUN   TestB/y\r\n    a_test.go:9: wrong\r\n=== NAME  TestB\r\n    a_test.go:11: about B\r\n" +
		"--- FAIL: TestB (0.00s)\r\n[ 1.2] oops    --- SKIP: TestB/x (0.00s)\r\n" +
		"    --- FAIL: TestB/y (0.00s)\r\n=== RUN   TestC\r\n--- SKIP: TestC (0.00s)\r\nFAIL\n"
	const broken = "--- PASS: TestA (0.00s)\n=== RUN   TestB\nKernel panic"
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "6.1.log"), filepath.Join(dir, "5.10.log")}
	for i, text := range []string{whole, broken} {
		if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []result{
		{"kernel-6.1.TestA", passed, ""},
		{"kernel-6.1.TestB", failed, ""},
		{"kernel-6.1.TestB/x", skipped, "a_test.go:3: needs kprobes"},
		{"kernel-6.1.TestB/y", failed, ""},
		{"kernel-6.1.TestC", skipped, ""},
		{"kernel-5.10.TestA", passed, ""},
		{"kernel-5.10", failed, ""},
	}
	got, err := readLogs(paths)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if _, err := readLogs([]string{filepath.Join(dir, "absent")}); err == nil {
		t.Error("got no error for an absent file")
	}
}

func TestMerge(t *testing.T) {
	got := merge([]result{
		{"p.TestA", skipped, "no root"},
		{"p.TestA", passed, ""},
		{"p.TestB", passed, ""},
		{"p.TestB/x", passed, ""},
		{"p.TestC", failed, ""},
		{"p.TestC/x", passed, ""},
		{"p.TestD", failed, ""},
		{"p.TestD/x", failed, ""},
		{"p.TestD", passed, ""},
	})
	want := []result{
		{"p.TestA", passed, ""},
		{"p.TestB/x", passed, ""},
		{"p.TestC", failed, ""},
		{"p.TestC/x", passed, ""},
		{"p.TestD/x", failed, ""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := count(got), "3 passed, 2 failed, 0 skipped"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSum(t *testing.T) {
	pass := result{"p.TestA", passed, ""}
	skip := result{"p.TestB", skipped, "a_test.go:3:\tneeds\nkprobes"}
	for name, tc := range map[string]struct {
		results []result
		allowed string
		strict  bool
		fails   bool
		last    string
	}{
		"passed":      {[]result{pass}, "", true, false, "1 passed, 0 failed, 0 skipped"},
		"nothing ran": {nil, "", false, true, "0 passed, 0 failed, 0 skipped"},
		"failed":      {[]result{pass, {"p.TestC", failed, ""}}, "", false, true, "1 passed, 1 failed, 0 skipped"},
		"lenient":     {[]result{pass, skip}, "", false, false, "1 passed, 0 failed, 1 skipped"},
		"strict":      {[]result{pass, skip}, "", true, true, "1 passed, 0 failed, 1 skipped"},
		"allowed":     {[]result{pass, skip}, "# why\np\\..* needs kprobes\n", true, false, "1 passed, 0 failed, 1 skipped"},
		"other cause": {[]result{pass, skip}, "p\\..* needs fentry\n", true, true, "1 passed, 0 failed, 1 skipped"},
		"other test":  {[]result{pass, skip}, "TestB needs kprobes\n", true, true, "1 passed, 0 failed, 1 skipped"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := options{
				tally:   filepath.Join(t.TempDir(), "tally"),
				allowed: filepath.Join(t.TempDir(), "allowed"),
				strict:  tc.strict,
			}
			if err := os.WriteFile(opts.allowed, []byte(tc.allowed), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := appendTally(opts.tally, tc.results); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := run(opts, []string{"sum"}, &out)
			if errors.Is(err, errFailed) != tc.fails || err != nil && !tc.fails {
				t.Errorf("got error %v, want failure %v", err, tc.fails)
			}
			if !strings.HasSuffix(out.String(), tc.last+"\n") {
				t.Errorf("got output %q, want last line %q", out.String(), tc.last)
			}
		})
	}
}

func TestRunUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"bogus"}, {"read"}} {
		if err := run(options{}, args, &bytes.Buffer{}); err == nil {
			t.Errorf("run(%q): got no error", args)
		}
	}
}

func TestFinish(t *testing.T) {
	opts := options{tally: filepath.Join(t.TempDir(), "tally")}
	results := []result{{"p.TestA", failed, ""}, {"p.TestB", skipped, "why"}}
	var out bytes.Buffer
	if err := finish(opts, results, nil, &out); !errors.Is(err, errFailed) {
		t.Errorf("got error %v, want %v", err, errFailed)
	}
	if want := "failed: p.TestA\nskipped: p.TestB: why\n0 passed, 1 failed, 1 skipped\n"; out.String() != want {
		t.Errorf("got output %q, want %q", out.String(), want)
	}
	if got, err := readTally(opts.tally); err != nil || !reflect.DeepEqual(got, results) {
		t.Errorf("got tally %v (%v), want %v", got, err, results)
	}
	opts = options{strict: true}
	if err := finish(opts, results[1:], nil, &out); !errors.Is(err, errFailed) {
		t.Errorf("strict: got error %v, want %v", err, errFailed)
	}
}
