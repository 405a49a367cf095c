// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/test/e2e/guest"
)

// Names of the guests' nodes. All others are of the machine's own kernel.
const (
	typed   = "linux-6.1"
	untyped = "linux-5.10-nobtf"
)

// What the guests' distributions are, as types of kernels are kept by distribution.
const (
	debian12 = `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian
VERSION_ID="12"
`
	nodegadget1 = `PRETTY_NAME="nodegadget's own"
ID=nodegadget
VERSION_ID=1
`
)

// startGuests lets the guests join the cluster.
func (s *suite) startGuests(t *testing.T) {
	kernels, err := guest.ReadKernels(kernelList)
	require.NoError(t, err)
	begin := time.Now()
	disk, err := guest.Root{
		Dir: filepath.Dir(s.Options.Hyperkube), Hyperkube: s.Options.Hyperkube, Images: s.Options.Images,
	}.Disk(t.Context())
	require.NoError(t, err)
	t.Logf("the guests have a disk after %.1f s", time.Since(begin).Seconds())
	for _, opts := range []guest.Options{
		{Name: typed, Kernel: kernels["6.1"], Release: debian12},
		{Name: untyped, Kernel: kernels["5.10-nobtf"], Release: nodegadget1},
	} {
		opts.Disk = disk
		g, err := guest.Start(t.Context(), s.Cluster, opts)
		require.NoError(t, err)
		s.guests = append(s.guests, g)
	}
	for _, g := range s.guests {
		require.NoError(t, g.AwaitReady(t.Context(), patience))
		t.Logf("%s is ready after %.1f s", g.Name, time.Since(begin).Seconds())
	}
}
