// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Hyperkube is the program that is all of Kubernetes.
type Hyperkube struct {
	// Path is where it is, once it is built.
	Path   string
	source string
}

// FindHyperkube returns the program of a module: test/e2e/hyperkube. It is kept in the
// cache ($NODEGADGET_CACHE, default ~/.cache/nodegadget) under the hash of its sources.
func FindHyperkube(source string) (Hyperkube, error) {
	cache := os.Getenv("NODEGADGET_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Hyperkube{}, err
		}
		cache = filepath.Join(home, ".cache", "nodegadget")
	}
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return Hyperkube{}, err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(text), text)
	}
	name := "hyperkube-" + hex.EncodeToString(hash.Sum(nil)[:8])
	return Hyperkube{Path: filepath.Join(cache, "e2e", name), source: source}, nil
}

// Build builds it unless it is there. That takes minutes where nothing of it was
// built before; say is told so first.
func (h Hyperkube) Build(ctx context.Context, say func(string)) error {
	if err := os.MkdirAll(filepath.Dir(h.Path), 0o755); err != nil {
		return err
	}
	unlock, err := lock(h.Path+".lock", func() { say("waiting for another build of Kubernetes") })
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(h.Path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	say("building Kubernetes; the first time this takes about ten minutes")
	flags, err := h.linkerFlags()
	if err != nil {
		return err
	}
	unfinished := h.Path + ".new"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", unfinished, ".")
	cmd.Dir = h.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building Kubernetes: %w", err)
	}
	return os.Rename(unfinished, h.Path)
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s+k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)$`)

// linkerFlags strip the program and give it the version that it is of: parts of
// Kubernetes that don't know theirs refuse each other.
func (h Hyperkube) linkerFlags() (string, error) {
	text, err := os.ReadFile(filepath.Join(h.source, "go.mod"))
	if err != nil {
		return "", err
	}
	version := kubernetesVersion.FindSubmatch(text)
	if version == nil {
		return "", errors.New("building Kubernetes: go.mod doesn't say of which version")
	}
	flags := []string{"-s", "-w"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			fmt.Sprintf("-X %s.gitVersion=%s", pkg, version[1]),
			fmt.Sprintf("-X %s.gitMajor=%s", pkg, version[2]),
			fmt.Sprintf("-X %s.gitMinor=%s", pkg, version[3]),
			fmt.Sprintf("-X %s.gitTreeState=clean", pkg),
		)
	}
	return strings.Join(flags, " "), nil
}
