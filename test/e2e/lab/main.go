// SPDX-License-Identifier: Apache-2.0

// Command lab keeps a cluster of the e2e tests for as long as a command runs in its
// network: a shell, if none is given. kubectl is on the PATH there, and finds the
// cluster.
//
//	lab [-images DIR] build           make what clusters need, if it is missing
//	lab [-nodes N] run [COMMAND...]
//
// It runs in the directory of the module, as root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/image"
)

func main() {
	nodes := flag.Int("nodes", 2, "`number` of nodes")
	images := flag.String("images", "build/e2e", "`directory` where the images are built; a btf.bundle there becomes part of them")
	flag.Parse()
	code, err := run(*nodes, *images, flag.Args())
	if err != nil {
		say(err.Error())
		code = 1
	}
	os.Exit(code)
}

func say(text string) { fmt.Fprintln(os.Stderr, "lab:", text) }

func run(nodes int, images string, args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("want build or run")
	}
	hyperkube, err := cluster.FindHyperkube("test/e2e/hyperkube")
	if err != nil {
		return 0, err
	}
	switch args[0] {
	case "build":
		if err := hyperkube.Build(context.Background(), say); err != nil {
			return 0, err
		}
		return 0, image.Build(context.Background(), images)
	case "run":
		opts := cluster.Options{
			Hyperkube: hyperkube.Path, Nodes: nodes, PauseImage: image.Pause, Images: image.Archives(images), Log: say,
		}
		return cluster.Main(opts, func(c *cluster.Cluster) int { return keep(c, args[1:]) }), nil
	}
	return 0, fmt.Errorf("unknown command %q: want build or run", args[0])
}

// keep runs the command and returns its exit code.
func keep(c *cluster.Cluster, argv []string) int {
	if len(argv) == 0 {
		argv = []string{"/bin/sh"}
		say("exit ends the cluster")
	}
	bin := filepath.Join(c.Options.Dir, "bin")
	err := os.MkdirAll(bin, 0o755)
	if err == nil {
		err = os.Symlink(c.Options.Hyperkube, filepath.Join(bin, "kubectl"))
	}
	if err != nil {
		say(err.Error())
		return 1
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok && err != nil {
		say(err.Error())
		return 1
	}
	return cmd.ProcessState.ExitCode()
}
