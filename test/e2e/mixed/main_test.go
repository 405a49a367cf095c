// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/guest"
	"nodegadget.dev/test/e2e/image"
)

// What make test-e2e-mixed has built.
const (
	programs = "../../../bin"
	images   = "../../../build/e2e-mixed"
	// kernelList is what `kernels fetch -modules` has printed.
	kernelList = images + "/kernels"
)

// shared is the cluster of all tests.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	if missing() != "" {
		os.Exit(m.Run())
	}
	os.Exit(cluster.Main(options(), func(c *cluster.Cluster) int {
		shared = c
		code := m.Run()
		if code != 0 {
			keepLogs(c)
		}
		return code
	}))
}

// keepLogs copies what the cluster's daemons and the guests' consoles said, which would
// be removed with the cluster.
func keepLogs(c *cluster.Cluster) {
	kept := filepath.Join(images, "log")
	if err := errors.Join(os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(filepath.Join(c.Options.Dir, "log")))); err != nil {
		say(err.Error())
		return
	}
	say("logs are kept in build/e2e-mixed/log")
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
	if err := errors.Join(cluster.Check(), guest.Check()); err != nil {
		return fmt.Sprintf("needs what `make test-e2e-mixed` installs: %v", err)
	}
	needed := append(image.Archives(images), options().Hyperkube, kernelList, filepath.Join(programs, "kubectl-gadget"))
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
