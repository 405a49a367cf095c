// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

func TestTwins(t *testing.T) {
	const arm, amd = "arm64", "x86_64"
	for _, test := range []struct {
		semantic gadget.Semantic
		arch     string
		number   uint64
		want     string
	}{
		{gadget.Errno, amd, 0, ""},
		{gadget.Errno, amd, 2, "ENOENT"},
		{gadget.Errno, arm, 11, "EAGAIN"},
		{gadget.Errno, amd, 41, "E41"},
		{gadget.Errno, amd, 512, "E512"},
		{gadget.Errno, amd, math.MaxUint32, "E4294967295"},
		{gadget.Signal, amd, 9, "SIGKILL"},
		{gadget.Signal, arm, 31, "SIGSYS"},
		{gadget.Signal, amd, 32, "SIG32"},
		{gadget.Signal, amd, 34, "SIGRTMIN"},
		{gadget.Signal, amd, 64, "SIGRTMIN+30"},
		{gadget.Signal, amd, 65, "SIG65"},
		{gadget.Syscall, "", 59, "execve"},
		{gadget.Syscall, amd, 59, "execve"},
		{gadget.Syscall, amd, 257, "openat"},
		{gadget.Syscall, arm, 56, "openat"},
		{gadget.Syscall, arm, 221, "execve"},
		{gadget.Syscall, arm, 250, "syscall_250"},
		{gadget.Syscall, amd, 400, "syscall_400"},
		{gadget.Syscall, amd, math.MaxUint32, "syscall_4294967295"},
		{gadget.OpenFlags, amd, 0, "O_RDONLY"},
		{gadget.OpenFlags, amd, 0o1101, "O_WRONLY|O_CREAT|O_TRUNC"},
		{gadget.OpenFlags, amd, 3, "O_ACCMODE"},
		{gadget.OpenFlags, amd, 0o2000002, "O_RDWR|O_CLOEXEC"},
		{gadget.OpenFlags, amd, 0o200000, "O_RDONLY|O_DIRECTORY"},
		{gadget.OpenFlags, arm, 0o200000, "O_RDONLY|O_DIRECT"},
		{gadget.OpenFlags, amd, 0o40000, "O_RDONLY|O_DIRECT"},
		{gadget.OpenFlags, arm, 0o40000, "O_RDONLY|O_DIRECTORY"},
		{gadget.OpenFlags, amd, 0o100000, "O_RDONLY|O_LARGEFILE"},
		{gadget.OpenFlags, arm, 0o100000, "O_RDONLY|O_NOFOLLOW"},
		{gadget.OpenFlags, amd, 0o400000, "O_RDONLY|O_NOFOLLOW"},
		{gadget.OpenFlags, arm, 0o400000, "O_RDONLY|O_LARGEFILE"},
		{gadget.OpenFlags, amd, 0o20200002, "O_RDWR|O_TMPFILE"},
		{gadget.OpenFlags, arm, 0o20040002, "O_RDWR|O_TMPFILE"},
		{gadget.OpenFlags, amd, 0o4010001, "O_WRONLY|O_SYNC"},
		{gadget.OpenFlags, amd, 0o10001, "O_WRONLY|O_DSYNC"},
		{gadget.OpenFlags, amd, 0x80000000, "O_RDONLY|0x80000000"},
		{gadget.Mode, amd, 0, "0000"},
		{gadget.Mode, amd, 0o7, "0007"},
		{gadget.Mode, amd, 0o70, "0070"},
		{gadget.Mode, amd, 0o644, "0644"},
		{gadget.Mode, arm, 0o4755, "4755"},
		{gadget.Mode, amd, 0o100644, "0644"},
	} {
		source := gadget.Source{Size: 4, Fields: []gadget.Field{{Name: "errno", Kind: gadget.Uint, Size: 4, Semantic: test.semantic}}}
		schema := event.NewSchema(source, event.Options{Arch: test.arch})
		require.Len(t, schema.Columns, 2)
		record := le(test.number, 4)
		requireValue(t, value{kind: event.Uint, uint: test.number}, schema.Columns[0].Value(record))
		requireValue(t, value{kind: event.Text, text: test.want}, schema.Columns[1].Value(record))
		requireNullWhenCut(t, schema, record)
	}
}

func TestTwinNames(t *testing.T) {
	for _, test := range []struct {
		field    string
		semantic gadget.Semantic
		twin     string
	}{
		{"errno", gadget.Errno, "error"},
		{"exit.errno", gadget.Errno, "exit.error"},
		{"ret", gadget.Errno, "reterror"},
		{"signal", gadget.Signal, "signal_name"},
		{"syscall", gadget.Syscall, "syscall_name"},
		{"flags", gadget.OpenFlags, "flags_names"},
		{"mode", gadget.Mode, "mode_octal"},
	} {
		source := gadget.Source{Size: 4, Fields: []gadget.Field{
			{Name: test.field, Kind: gadget.Int, Size: 4, Semantic: test.semantic, Hidden: true, Width: 3},
		}}
		schema := event.NewSchema(source, event.Options{})
		require.Equal(t, []string{test.field, test.twin}, schema.Names())
		raw, readable := schema.Columns[0], schema.Columns[1]
		require.True(t, raw.Raw && raw.Right && raw.Hidden)
		require.True(t, !readable.Raw && !readable.Right && readable.Hidden)
		require.Equal(t, event.Int, raw.Kind)
		require.Equal(t, event.Text, readable.Kind)
		require.Equal(t, test.semantic, readable.Semantic)
		require.NotEmpty(t, readable.Doc)
		require.GreaterOrEqual(t, readable.Width, len(test.twin))
	}
}
