// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// command prepares a program of the machine, or says which Debian package has
// it. It ends with ctx, politely first.
func command(ctx context.Context, debPackage, name string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%s is not installed: apt-get install %s", name, debPackage)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}

// output runs cmd and returns what it printed. The error carries the last thing
// it complained about.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, complaint(err, cmd, stderr.String())
	}
	return stdout.Bytes(), nil
}

// complaint adds to a failed program's exit status what it had to say.
func complaint(err error, cmd *exec.Cmd, stderr string) error {
	name := filepath.Base(cmd.Path)
	if reason := reasonIn(stderr); reason != "" {
		return fmt.Errorf("%s: %w: %s", name, err, reason)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// reasonIn picks one line. Programs end with what stopped them, except for apt,
// which begins with it and ends with a general remark.
func reasonIn(stderr string) string {
	reason := ""
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "E: ") {
			return line
		}
		if line != "" {
			reason = line
		}
	}
	return reason
}
