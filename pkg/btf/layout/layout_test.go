// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	focal := Kernel{"ubuntu", "20.04", "x86_64", "5.4.0-58-generic"}
	for _, test := range []struct {
		path string
		want Kernel
	}{
		{"ubuntu/20.04/x86_64/5.4.0-58-generic.btf.tar.xz", focal},
		{"./btfhub-archive/ubuntu/20.04/x86_64/5.4.0-58-generic.btf.tar.xz", focal},
		{"/ubuntu/20.04/amd64/5.4.0-58-generic.btf", focal},
		{"ubuntu/20.04/x86_64/5.4.0-58-generic", focal},
		{"debian/bullseye/aarch64/5.10.0-8-arm64.btf.tar.xz", Kernel{"debian", "bullseye", "arm64", "5.10.0-8-arm64"}},
		{"sles/15.3/arm64/5.3.18-57-default.btf.tar.xz", Kernel{"sles", "15.3", "arm64", "5.3.18-57-default"}},
		{"debian/13/x86_64/6.12.94+deb13-amd64.btf", Kernel{"debian", "13", "x86_64", "6.12.94+deb13-amd64"}},
	} {
		got, err := Parse(test.path)
		require.NoError(t, err, test.path)
		require.Equal(t, test.want, got)
		again, err := Parse(got.File())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ path, want string }{
		{"", "want distro/release/arch/kernel.btf.tar.xz"},
		{"5.4.0.btf.tar.xz", "want distro/release/arch/kernel.btf.tar.xz"},
		{"ubuntu/20.04/x86_64/.btf.tar.xz", `kernel ""`},
		{"ubuntu/20.04/mips/5.4.0.btf", `architecture "mips": want x86_64 or arm64`},
		{"ubuntu/../x86_64/5.4.0.btf", `release ".."`},
		{"../20.04/x86_64/5.4.0.btf", `distribution ".."`},
		{"ubuntu/20.04/x86_64/..", `kernel ".."`},
		{"ubuntu/20.04/x86_64/a\x1bb.btf", `kernel "a\x1bb"`},
		{"ubuntu//x86_64/5.4.0.btf", `release ""`},
		{"ubuntu/20.04/x86_64/" + strings.Repeat("5", 97), "want 1 to 96 of letters"},
	} {
		_, err := Parse(test.path)
		require.ErrorContains(t, err, test.want, test.path)
		require.NotContains(t, err.Error(), "\x1b")
	}
}

func TestCompareOrdersByParts(t *testing.T) {
	want := []Kernel{
		{"debian", "10", "arm64", "4.19"},
		{"debian", "10", "x86_64", "4.19"},
		{"debian", "9", "arm64", "4.9"},
		{"ubuntu", "18.04", "x86_64", "4.15"},
		{"ubuntu", "18.04", "x86_64", "5.4"},
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Kernel.Compare)
	require.Equal(t, want, got)
}

func FuzzParse(f *testing.F) {
	f.Add("ubuntu/20.04/x86_64/5.4.0-58-generic.btf.tar.xz")
	f.Add("../../etc/x86_64/passwd")
	f.Fuzz(func(t *testing.T, path string) {
		k, err := Parse(path)
		if err != nil {
			require.Equal(t, Kernel{}, k)
			return
		}
		require.NoError(t, k.Validate())
		again, err := Parse(k.String() + RawSuffix)
		require.NoError(t, err)
		require.Equal(t, k, again)
	})
}
