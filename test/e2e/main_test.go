// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/image"
)

const (
	// programs and images are what make test-e2e has built.
	programs = "../../bin"
	images   = "../../build/e2e"
	nodes    = 2
)

// shared is the cluster of all tests. Bringing one up takes longer than most of them.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	if missing() != "" {
		os.Exit(m.Run())
	}
	os.Exit(cluster.Main(options(), func(c *cluster.Cluster) int {
		shared = c
		code := m.Run()
		for _, text := range notes {
			say(text)
		}
		return code
	}))
}

// notes are what the tests have measured. They are printed at the end: what tests log
// is shown only if they fail.
var notes []string

func note(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }

func say(text string) { fmt.Fprintln(os.Stderr, "cluster:", text) }

// missing says what the tests lack, if they lack something.
func missing() string {
	if os.Geteuid() != 0 {
		return "needs root: a cluster takes namespaces, mounts and cgroups"
	}
	if err := cluster.Check(); err != nil {
		return fmt.Sprintf("needs what `make test-e2e` installs: %v", err)
	}
	needed := append(image.Archives(images), options().Hyperkube, filepath.Join(programs, "kubectl-gadget"), helmPath())
	for _, path := range needed {
		if _, err := os.Stat(path); err != nil {
			return fmt.Sprintf("needs what `make test-e2e` builds: %v", err)
		}
	}
	return ""
}

func options() cluster.Options {
	// Its error is that of a file which every checkout has.
	hyperkube, _ := cluster.FindHyperkube("hyperkube")
	return cluster.Options{
		Hyperkube: hyperkube.Path, Nodes: nodes, PauseImage: image.Pause, Images: image.Archives(images),
		Log: say,
	}
}
