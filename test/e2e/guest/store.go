// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"nodegadget.dev/test/e2e/cluster"
)

// store is a directory that containerd keeps images in.
type store struct {
	root string
	dir  string // for what is needed to make it
}

// fill imports archives of images, by a containerd that runs for as long.
func (s store) fill(ctx context.Context, archives []string) error {
	programs, err := cluster.FindPrograms()
	if err != nil {
		return err
	}
	config, socket := filepath.Join(s.dir, "containerd.toml"), filepath.Join(s.dir, "c.sock")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [%q]\n[grpc]\naddress = %q\n",
		s.root, filepath.Join(s.dir, "state"), "io.containerd.grpc.v1.cri", socket)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.dir, "containerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()

	// The kernel sends the signal of Pdeathsig when the thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	daemon := exec.Command(programs.Containerd, "--config", config)
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		return err
	}
	err = s.importAll(ctx, programs.Ctr, socket, archives)
	_ = daemon.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = daemon.Wait()
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, said)
	}
	return nil
}

func (s store) importAll(ctx context.Context, ctr, socket string, archives []string) error {
	run := func(args ...string) error {
		args = append([]string{"--address", socket, "--namespace", "k8s.io"}, args...)
		if out, err := exec.CommandContext(ctx, ctr, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := run("version")
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Since(begin) > time.Minute {
			return err
		}
	}
	for _, archive := range archives {
		if err := run("images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}
