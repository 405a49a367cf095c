// SPDX-License-Identifier: Apache-2.0

// Package boot is what a guest and its harness agree upon.
package boot

import (
	"encoding/json"
	"fmt"
	"os"
)

// Where things are in the initramfs.
const (
	// ConfigFile holds a [Config].
	ConfigFile = "/boot.json"
	// ModuleDir holds kernel modules.
	ModuleDir = "/modules"
	// NodeDir is copied over the root file system.
	NodeDir = "/node"
)

// Config tells a guest what to become.
type Config struct {
	Name, Address, Gateway string
	// Modules are files of ModuleDir, in the order they need each other.
	Modules []string
	// Containerd and Kubelet are commands, of which the first must make Socket before
	// the second is run.
	Containerd, Kubelet []string
	Socket              string
}

// Request asks a guest to run a command. Requests and responses are lines of JSON on
// the second serial port.
type Request struct {
	// ID comes back in the response: an answer may be that to somebody who gave up.
	ID   uint64
	Argv []string
}

// Response is what came of it.
type Response struct {
	ID             uint64
	Stdout, Stderr string
	Code           int
	// Error says why the command could not be run, if it couldn't.
	Error string
}

// Read reads the configuration.
func Read(file string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return Config{}, fmt.Errorf("reading %s: %w", file, err)
	}
	return c, nil
}
