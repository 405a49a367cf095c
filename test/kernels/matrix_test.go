// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestDefaultMatrix(t *testing.T) {
	m, err := parseMatrix(defaultMatrix)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range m.Kernels {
		names = append(names, k.Name)
		if k.Memory == 0 {
			t.Errorf("%s has no memory", k.Name)
		}
		if k.Comment == "" {
			t.Errorf("%s does not say why it is in the matrix", k.Name)
		}
	}
	for _, want := range []string{"5.10", "6.1", "6.12", "6.18", "newest", "6.12-arm64"} {
		if !slices.Contains(names, want) {
			t.Errorf("no kernel %s", want)
		}
	}
}

// testMatrix is a valid matrix with the given kernels.
func testMatrix(kernels string) string {
	return "memory: 256\ncpus: 1\nbusybox: {suites: [trixie], package: ^busybox-static$}\nkernels:\n" + kernels
}

func TestParseMatrix(t *testing.T) {
	m, err := parseMatrix([]byte(testMatrix(`
- {name: a, arch: amd64, suites: [x, y], package: "^linux-a$", memory: 1024, cmdline: debug, hide_btf: true}
- {name: b, arch: arm64, suites: [x], package: "^linux-b$"}
`)))
	if err != nil {
		t.Fatal(err)
	}
	a, b := m.Kernels[0], m.Kernels[1]
	if a.Memory != 1024 || a.Cmdline != "debug" || !a.HideBTF || !slices.Equal(a.Source.Suites, []string{"x", "y"}) {
		t.Errorf("a is %+v", a)
	}
	if b.Memory != 256 || b.HideBTF || b.Arch != "arm64" || !b.Source.Package.MatchString("linux-b") {
		t.Errorf("b is %+v", b)
	}
}

func TestParseMatrixErrors(t *testing.T) {
	const entry = "- {name: a, arch: amd64, suites: [x], package: a}\n"
	for _, tc := range []struct{ name, matrix, want string }{
		{"empty", "", "EOF"},
		{"no kernels", testMatrix("  []"), "no kernels"},
		{"no memory", "cpus: 1", "memory and cpus"},
		{"no busybox", "cpus: 1\nmemory: 1", "busybox: no suites"},
		{"unknown field", testMatrix("- {nam: a}"), "nam not found"},
		{"bad arch", testMatrix("- {name: a, arch: riscv64, suites: [x], package: a}"), `unknown architecture "riscv64"`},
		{"bad name", testMatrix("- {name: ../a, arch: amd64, suites: [x], package: a}"), "name must be"},
		{"bad pattern", testMatrix("- {name: a, arch: amd64, suites: [x], package: (}"), "missing closing"},
		{"no suites", testMatrix("- {name: a, arch: amd64, package: a}"), "no suites"},
		{"no package", testMatrix("- {name: a, arch: amd64, suites: [x]}"), "no package"},
		{"memory", testMatrix("- {name: a, arch: amd64, suites: [x], package: a, memory: -1}"), "memory"},
		{"twice", testMatrix(entry + entry), "the name is taken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parseMatrix([]byte(tc.matrix))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error is %v, want one with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %v", err)
			}
		})
	}
}

func TestSelected(t *testing.T) {
	m := &matrix{Kernels: []kernel{{Name: "5.10"}, {Name: "6.1"}, {Name: "6.12"}, {Name: "6.12-arm64"}}}
	for _, tc := range []struct {
		names []string
		want  string
	}{
		{nil, "5.10 6.1 6.12 6.12-arm64"},
		{[]string{"6.12", "5.10"}, "5.10 6.12"},
		{[]string{"6.*", "6.12"}, "6.1 6.12 6.12-arm64"},
		{[]string{"*-arm64"}, "6.12-arm64"},
	} {
		kernels, err := m.selected(tc.names)
		if err != nil {
			t.Errorf("%v: %v", tc.names, err)
		}
		var got []string
		for _, k := range kernels {
			got = append(got, k.Name)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%v selects %q, want %q", tc.names, s, tc.want)
		}
	}
	if _, err := m.selected([]string{"6.1", "4.19"}); err == nil || !strings.Contains(err.Error(), `"4.19"`) {
		t.Errorf("error is %v, want one that names the kernel", err)
	}
}
