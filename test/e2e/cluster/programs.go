// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// searchPath is where programs of the machine are looked for, and the PATH of the
// cluster's daemons.
var searchPath = []string{
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
}

// programs are paths of what the cluster runs, apart from Kubernetes.
type programs struct {
	containerd, ctr, runc, etcd, ip string
	// cni is the directory of the network plugins.
	cni string
}

// ErrMissing says that the machine lacks a program.
var ErrMissing = errors.New("not installed")

// Check returns an error that wraps [ErrMissing] if the machine lacks a program that
// clusters need.
func Check() error {
	_, err := findPrograms()
	return err
}

func findPrograms() (programs, error) {
	var p programs
	for name, path := range map[string]*string{
		"containerd": &p.containerd, "ctr": &p.ctr, "runc": &p.runc, "etcd": &p.etcd, "ip": &p.ip, "iptables": new(string),
	} {
		found, err := find(name, searchPath)
		if err != nil {
			return p, err
		}
		*path = found
	}
	// Its shim, and ctr, must be of the same version.
	p.ctr = filepath.Join(filepath.Dir(p.containerd), "ctr")
	bridge, err := find("bridge", []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"})
	p.cni = filepath.Dir(bridge)
	return p, err
}

func find(name string, dirs []string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w in %s", name, ErrMissing, strings.Join(dirs, ", "))
}
