// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/guest/internal/boot"
	"nodegadget.dev/test/kernels/cpio"
)

// initPackage is the program that is /init.
const initPackage = "nodegadget.dev/test/e2e/guest/init"

// initrd is the first root file system of a guest.
type initrd struct {
	init    string // path of the program
	config  boot.Config
	modules []string // files
	machine *cluster.Machine
	release string // of the distribution, /etc/os-release
}

// write writes the archive.
func (i initrd) write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(i.writeTo(cpio.NewWriter(f)), f.Close())
}

func (i initrd) writeTo(c *cpio.Writer) error {
	for _, module := range i.modules {
		i.config.Modules = append(i.config.Modules, filepath.Base(module))
	}
	config, err := json.Marshal(i.config)
	if err != nil {
		return err
	}
	// Init's standard output; the kernel opens it before /dev is mounted.
	c.CharDevice("/dev/console", 0o600, 5, 1)
	for name, text := range map[string]string{
		boot.ConfigFile:                  string(config),
		boot.NodeDir + "/etc/os-release": i.release,
		boot.NodeDir + "/etc/hosts":      fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", i.machine.Address, i.machine.Name),
	} {
		c.File(name, 0o644, int64(len(text)), strings.NewReader(text))
	}
	err = errors.Join(
		c.Copy("/init", i.init, 0o755),
		c.CopyTree(boot.NodeDir, i.machine.Files),
	)
	for _, module := range i.modules {
		err = errors.Join(err, c.Copy(path.Join(boot.ModuleDir, filepath.Base(module)), module, 0))
	}
	return errors.Join(err, c.Close())
}

func buildInit(ctx context.Context, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, initPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building init: %w: %s", err, out)
	}
	return nil
}
