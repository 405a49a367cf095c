// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Names of the images that the tests use. No registry has them.
const (
	// Nodegadget is this project's.
	Nodegadget = "nodegadget.test/nodegadget:e2e"
	// Pause is that of pods' sandboxes.
	Pause = "nodegadget.test/pause:e2e"
	// Workload is what is traced: busybox, and /bin/tool, which makes events. It is the
	// program of test/live.
	Workload = "nodegadget.test/workload:e2e"
)

// Archives are where [Build] writes the images to.
func Archives(dir string) []string {
	var paths []string
	for _, name := range []string{"pause", "workload", "nodegadget"} {
		paths = append(paths, filepath.Join(dir, name+".tar"))
	}
	return paths
}

// Build makes all images in a directory. It is called in the directory of the module,
// of which bin holds the programs.
func Build(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	pause, tool := filepath.Join(dir, "pause"), filepath.Join(dir, "tool")
	if err := compile(ctx, "build", "-ldflags=-s -w", "-o", pause, "./test/e2e/pause"); err != nil {
		return err
	}
	if err := compile(ctx, "test", "-c", "-ldflags=-s -w", "-o", tool, "./test/live"); err != nil {
		return err
	}
	workload, err := workload(ctx, tool)
	if err != nil {
		return err
	}
	images := []*Image{
		{Name: Pause, Files: map[string]string{"/pause": pause}, Entrypoint: []string{"/pause"}},
		workload,
		nodegadget(dir),
	}
	for i, archive := range Archives(dir) {
		if err := images[i].Write(archive); err != nil {
			return err
		}
	}
	return nil
}

func compile(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// nodegadget is what the Dockerfile makes, but for the bundle, which is there if the
// directory has one.
func nodegadget(dir string) *Image {
	i := &Image{
		Name: Nodegadget, Entrypoint: []string{"/gadget-agent"},
		Files: map[string]string{
			"/gadget-agent":      "bin/gadget-agent",
			"/gadget-controller": "bin/gadget-controller",
		},
	}
	if bundle := filepath.Join(dir, "btf.bundle"); exists(bundle) {
		i.Files["/usr/share/nodegadget/btf.bundle"] = bundle
	}
	return i
}

// workload has each applet of busybox under its own name.
func workload(ctx context.Context, tool string) (*Image, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("making the image of workloads: %w", err)
	}
	list, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("listing what busybox has: %w", err)
	}
	i := &Image{
		Name: Workload, Entrypoint: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}, Dirs: []string{"/tmp"},
		Files: map[string]string{"/bin/busybox": busybox, "/bin/tool": tool}, Links: map[string]string{},
	}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			i.Links["/bin/"+applet] = "busybox"
		}
	}
	return i, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
