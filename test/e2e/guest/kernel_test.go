// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadKernels(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kernels")
	for _, tc := range []struct {
		name, text string
		want       map[string]Kernel
		err        string
	}{
		{
			name: "with and without modules",
			text: "6.1\tlinux-image\t6.1-1\t/c/vmlinux\t/c/btf\t/c-modules\n" + "5.10-nobtf\tlinux-source\t5.10-1\t/b/vmlinux\t/b/btf\t\n",
			want: map[string]Kernel{
				"6.1":        {Name: "6.1", Boot: "/c/vmlinux", Modules: "/c-modules"},
				"5.10-nobtf": {Name: "5.10-nobtf", Boot: "/b/vmlinux"},
			},
		},
		{name: "fetched without modules", text: "6.1\tlinux-image\t6.1-1\t/c/vmlinux\t/c/btf\n", err: "a line has 5 fields, want 6"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(file, []byte(tc.text), 0o644))
			got, err := ReadKernels(file)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}
