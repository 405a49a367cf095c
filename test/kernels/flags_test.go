// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseRunFlags(t *testing.T) {
	t.Setenv("NODEGADGET_CACHE", "/cache")
	o, err := parseRunFlags([]string{
		"--kernel", "6.1", "--kernel=6.12", "--btf", "hidden,none", "--jobs", "3", "--timeout=10s", "--env", "A=b=c",
		"--add", "/x:y:/etc/x/", "--bin", "amd64=/a", "--bin", "arm64=/b", "--", "-test.v", "--x",
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.Jobs != 3 || o.Timeout != 10*time.Second || o.Cache != "/cache" {
		t.Errorf("options are %+v", o)
	}
	for _, pair := range [][2]any{
		{o.Kernels, []string{"6.1", "6.12"}},
		{o.BTF, []btfState{btfHidden, btfNone}},
		{o.Task.Args, []string{"-test.v", "--x"}},
		{o.Task.Env, []string{"A=b=c"}},
		{o.Add, []addition{{Host: "/x:y", Guest: "/etc/x"}}},
		{o.Binaries, map[arch]string{"amd64": "/a", "arm64": "/b"}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("got %v, want %v", pair[0], pair[1])
		}
	}
}

func TestFlagErrors(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"run --bin foo", "want arch=path"},
		{"run --bin mips=/x", `unknown architecture "mips"`},
		{"run --env A", "want key=value"},
		{"run --env =A", "want key=value"},
		{"run --add /x", "not hostpath:/absolute/guestpath"},
		{"run --add /x:y", "not hostpath:/absolute/guestpath"},
		{"run --jobs 0", "must be positive"},
		{"run --timeout -1s", "must be positive"},
		{"run --nope", "not defined: -nope"},
		{"run --kernel 4.19", `no kernel "4.19"`},
		{"run --kernel 6.1", "no --bin amd64=PATH"},
		{"list extra", `list takes no arguments, got "extra"`},
		{"fetch --matrix /nope", "reading matrix"},
		{"run --btf gone", `btf is "gone", want present, hidden or none`},
		{"corpus extra", `corpus takes no arguments, got "extra"`},
		{"corpus --list /nope", "reading corpus"},
		{"boot", `no command "boot"`},
	} {
		err := run(t.Context(), strings.Fields(tc.args))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want one with %q", tc.args, err, tc.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %v", tc.args, err)
		}
	}
}

func TestCheckBinary(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello, hello, hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text:    "is not an ELF file",
		"/nope": "no such file",
	} {
		if err := checkBinary(path, "amd64"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", path, err, want)
		}
	}
}
