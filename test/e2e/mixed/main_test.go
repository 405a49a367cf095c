// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/guest"
	"nodegadget.dev/test/e2e/image"
)

// What make test-e2e-mixed has built.
const (
	programs = "../../../bin"
	images   = "../../../build/e2e-mixed"
	// kernels is what `kernels fetch -modules` has printed.
	kernels = images + "/kernels"
)

// Names of nodes. All others are of the machine's own kernel.
const (
	typed   = "linux-6.1"
	untyped = "linux-5.10-nobtf"
)

// shared is the suite of all tests.
var shared *suite

func TestMain(m *testing.M) {
	if missing() != "" {
		os.Exit(m.Run())
	}
	os.Exit(cluster.Main(options(), func(c *cluster.Cluster) int {
		var err error
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		shared, err = newSuite(ctx, c)
		cancel()
		if err != nil {
			say(err.Error())
			return 1
		}
		return m.Run()
	}))
}

func say(text string) { fmt.Fprintln(os.Stderr, "cluster:", text) }

// missing says what the tests lack, if they lack something.
func missing() string {
	if os.Geteuid() != 0 {
		return "needs root: a cluster takes namespaces, mounts and cgroups"
	}
	if runtime.GOARCH != "amd64" {
		return "needs amd64: of other architectures there is no kernel without BTF"
	}
	if err := cluster.Check(); err != nil {
		return fmt.Sprintf("needs what `make test-e2e-mixed` installs: %v", err)
	}
	needed := append(image.Archives(images), options().Hyperkube, kernels, filepath.Join(programs, "kubectl-gadget"))
	for _, path := range needed {
		if _, err := os.Stat(path); err != nil {
			return fmt.Sprintf("needs what `make test-e2e-mixed` builds: %v", err)
		}
	}
	return ""
}

func options() cluster.Options {
	// Its error is that of a file which every checkout has.
	hyperkube, _ := cluster.FindHyperkube("../hyperkube")
	return cluster.Options{
		Dir:       filepath.Join(os.TempDir(), "nodegadget-e2e-mixed"),
		Hyperkube: hyperkube.Path, Nodes: 1, PauseImage: image.Pause, Images: image.Archives(images),
		Log: say,
	}
}

// newSuite adds the guests to a cluster.
func newSuite(ctx context.Context, c *cluster.Cluster) (*suite, error) {
	s := &suite{Cluster: c}
	found, err := guest.ReadKernels(kernels)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	disk, err := guest.Root{
		Dir: filepath.Dir(c.Options.Hyperkube), Hyperkube: c.Options.Hyperkube, Images: c.Options.Images,
	}.Disk(ctx)
	if err != nil {
		return nil, err
	}
	say(fmt.Sprintf("disk of guests after %.1f s", time.Since(begin).Seconds()))
	for _, opts := range []guest.Options{
		{Name: typed, Kernel: found["6.1"], Release: debian12},
		{Name: untyped, Kernel: found["5.10-nobtf"], Release: nodegadget1},
	} {
		opts.Disk = disk
		g, err := guest.Start(ctx, c, opts)
		if err != nil {
			return nil, err
		}
		s.guests = append(s.guests, g)
	}
	for _, g := range s.guests {
		if err := g.AwaitReady(ctx); err != nil {
			return nil, err
		}
		say(fmt.Sprintf("%s is ready after %.1f s", g.Name, time.Since(begin).Seconds()))
	}
	return s, nil
}

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
