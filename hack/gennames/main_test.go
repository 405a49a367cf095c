// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// list is a table as zerrors_linux_amd64.go has them, with more entries after
// those given, so that there are enough.
func list(variable string, entries ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "// table\nvar %s = [...]struct {\n\tnum  syscall.Errno\n\tname string\n\tdesc string\n}{\n", variable)
	for _, entry := range entries {
		fmt.Fprintf(&b, "\t%s,\n", entry)
	}
	for i := range 20 {
		fmt.Fprintf(&b, "\t{%d, \"%s%d\", \"filler\"},\n", 100+i, strings.ToUpper(variable[:1]), i)
	}
	b.WriteString("}\n")
	return b.String()
}

// calls are constants as zsysnum_linux_amd64.go has them.
func calls(entries ...string) string {
	text := "package unix\n\nconst (\n" + strings.Join(entries, "\n") + "\n"
	for i := range 20 {
		text += fmt.Sprintf("\tSYS_FILLER%d = %d\n", i, 100+i)
	}
	return text + ")\n"
}

func TestTable(t *testing.T) {
	file := "package unix\n\n" +
		list("errorList", `{1, "EPERM", "operation not permitted"}`, `{11, "EAGAIN", "try again"}`, `{11, "EWOULDBLOCK", "same"}`, `{-1, "EODD", "x"}`, `{2, "lower", "x"}`) +
		"\nvar other = [...]int{\n\t{3, \"EOTHER\", \"between the lists\"},\n}\n\n" +
		list("signalList", `{1, "SIGHUP", "hangup"}`, `{9, "SIGKILL", "killed"}`)
	for _, test := range []struct {
		name, file, begin string
		want              []name
	}{
		{"first list", file, "var errorList", []name{{1, "EPERM"}, {11, "EAGAIN"}}},
		{"second list", file, "var signalList", []name{{1, "SIGHUP"}, {9, "SIGKILL"}}},
		{
			"system calls", calls("\tSYS_READ                    = 0", "\tSYS_OPENAT2 = 437", "\tSYS_EPOLL_CTL_OLD = 214", "\tSYS__SYSCTL = 156", "\tNOT_A_CALL = 5"), "",
			[]name{{0, "read"}, {437, "openat2"}, {214, "epoll_ctl_old"}, {156, "_sysctl"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "z.go")
			require.NoError(t, os.WriteFile(path, []byte(test.file), 0o600))
			got, err := table(path, test.begin)
			require.NoError(t, err)
			require.Len(t, got, len(test.want)+20)
			require.Equal(t, test.want, got[:len(test.want)])
		})
	}
}

// TestTableThatIsMissingIsAnError: x/sys might be rearranged, and an empty table
// would compile.
func TestTableThatIsMissingIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "z.go")
	require.NoError(t, os.WriteFile(path, []byte(list("errorList")), 0o600))
	for _, begin := range []string{"var signalList", ""} {
		_, err := table(path, begin)
		require.ErrorContains(t, err, "only 0 names found")
	}
	_, err := table(filepath.Join(t.TempDir(), "none"), "")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestGeneratedTablesAreCurrent generates them anew from the version of x/sys
// that go.mod pins.
func TestGeneratedTablesAreCurrent(t *testing.T) {
	output := filepath.Join(t.TempDir(), "names.go")
	require.NoError(t, run(output))
	got, err := os.ReadFile(output)
	require.NoError(t, err)
	want, err := os.ReadFile("../../pkg/event/names_generated.go")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run make generate")
	for _, text := range []string{`2:   "ENOENT"`, `9:  "SIGKILL"`, `257: "openat"`, `437: "openat2"`, `221: "execve"`} {
		require.Contains(t, string(got), text)
	}
}
