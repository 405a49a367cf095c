// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
	for _, want := range []string{
		"5.10", "6.1", "6.12", "6.18", "newest", "6.12-arm64",
		"5.10-nobtf", "5.10-hidden", "6.1-hidden", "6.12-hidden", "newest-hidden", "6.12-arm64-hidden",
	} {
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
- {name: a, arch: amd64, suites: [x, y], package: "^linux-a$", memory: 1024, cmdline: debug, btf: hidden}
- {name: b, arch: arm64, suites: [x], package: "^linux-b$"}
`)))
	if err != nil {
		t.Fatal(err)
	}
	a, b := m.Kernels[0], m.Kernels[1]
	if a.Memory != 1024 || a.Cmdline != "debug" || a.BTF != btfHidden || !slices.Equal(a.Source.Suites, []string{"x", "y"}) {
		t.Errorf("a is %+v", a)
	}
	if b.Memory != 256 || b.BTF != btfPresent || b.Arch != "arm64" || !b.Source.Package.MatchString("linux-b") {
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
		{"bad btf", testMatrix("- {name: a, arch: amd64, suites: [x], package: a, btf: gone}"), `btf is "gone", want present`},
		{"like nothing", testMatrix("- {name: a, like: b}"), `like "b" is no earlier kernel`},
		{"like itself", testMatrix("- {name: a, like: a}"), `like "a" is no earlier kernel`},
		{"like and own package", testMatrix(entry + "- {name: b, like: a, arch: arm64}"), `are those of "a"`},
		{"no recipe", testMatrix("- {name: a, arch: amd64, suites: [x], package: a, build: ../x}"), `no recipe "../x"`},
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

func TestLike(t *testing.T) {
	m, err := parseMatrix([]byte(testMatrix(`
- {name: a, arch: arm64, suites: [x], package: "^linux-a$"}
- {name: a-hidden, like: a, btf: hidden, memory: 1024}
`)))
	require.NoError(t, err)
	a, hidden := m.Kernels[0], m.Kernels[1]
	require.Equal(t, a.Source, hidden.Source)
	require.Equal(t, a.Arch, hidden.Arch)
	require.Equal(t, "a", hidden.cacheName(), "the package is not fetched twice")
	require.Equal(t, btfHidden, hidden.BTF)
	require.Equal(t, 1024, hidden.Memory)
}

func TestSelected(t *testing.T) {
	m := &matrix{Kernels: []kernel{
		{Name: "5.10", BTF: btfPresent},
		{Name: "6.1", BTF: btfPresent},
		{Name: "6.12", BTF: btfPresent},
		{Name: "5.10-nobtf", BTF: btfNone},
		{Name: "6.12-hidden", BTF: btfHidden},
	}}
	for _, tc := range []struct {
		names  []string
		states []btfState
		want   string
	}{
		{nil, nil, "5.10 6.1 6.12"},
		{[]string{"6.12", "5.10"}, nil, "5.10 6.12"},
		{[]string{"6.*", "6.12"}, nil, "6.1 6.12 6.12-hidden"},
		{[]string{"6.*"}, []btfState{btfPresent}, "6.1 6.12"},
		{[]string{"*-hidden"}, nil, "6.12-hidden"},
		{nil, []btfState{btfHidden, btfNone}, "5.10-nobtf 6.12-hidden"},
	} {
		kernels, err := m.selected(tc.names, tc.states)
		if err != nil {
			t.Errorf("%v: %v", tc.names, err)
		}
		var got []string
		for _, k := range kernels {
			got = append(got, k.Name)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%v %v selects %q, want %q", tc.names, tc.states, s, tc.want)
		}
	}
	if _, err := m.selected([]string{"6.1", "4.19"}, nil); err == nil || !strings.Contains(err.Error(), `"4.19"`) {
		t.Errorf("error is %v, want one that names the kernel", err)
	}
	_, err := m.selected([]string{"6.1"}, []btfState{btfNone})
	require.ErrorContains(t, err, `BTF [none] and one of the names ["6.1"]`)
}
