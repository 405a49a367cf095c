// SPDX-License-Identifier: Apache-2.0

package task

import (
	"reflect"
	"testing"
)

func TestTaskRoundTrip(t *testing.T) {
	want := Task{Args: []string{"-test.v", "with \"quotes\"\nand lines"}, Env: []string{"A=b c"}}
	data, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unmarshal(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, error %v", got, err)
	}
	if _, err := Unmarshal([]byte("{")); err == nil {
		t.Error("half a task is accepted")
	}
}

func TestParseExit(t *testing.T) {
	want := Exit{Code: 137, Release: "7.3.4+deb13-cloud-amd64"}
	for _, line := range []string{want.String(), "text " + want.String()} {
		if got, ok := ParseExit(line); !ok || got != want {
			t.Errorf("%q is %v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", want.String()[1:], want.String() + " more", "NODEGADGET-EXIT x 6.1", "NODEGADGET-EXIT -1 6.1"} {
		if got, ok := ParseExit(line); ok {
			t.Errorf("%q is %v", line, got)
		}
	}
}

func TestParam(t *testing.T) {
	const cmdline = "console=ttyS0 quiet nodegadget.kernel=6.12-hidden nodegadget.btf=hidden\n"
	for name, want := range map[string]string{
		KernelParam:           "6.12-hidden",
		BTFParam:              BTFHidden,
		"nodegadget.missing=": "",
		"btf=":                "",
	} {
		if got := Param(cmdline, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
