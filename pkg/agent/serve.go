// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// shutdownTimeout is how long clients get to receive the end of their runs.
const shutdownTimeout = 5 * time.Second

// Listen makes the socket at address, "unix:///path". Only its owner may use it,
// and the members of group if that isn't empty: who can connect can see every
// process of the machine. A socket that a dead agent left is replaced; one that
// somebody serves is an error.
func Listen(address, group string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return nil, fmt.Errorf("address %q is not of the form unix:///path/to/socket", address)
	}
	gid, mode := -1, os.FileMode(0o600)
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("looking up the socket's group: %w", err)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, fmt.Errorf("looking up the socket's group: %w", err)
		}
		mode = 0o660
	}
	// A new directory keeps others out until the socket has its permissions; one
	// that was there, perhaps /tmp, keeps those that it has.
	dir := filepath.Dir(path)
	_, err := os.Stat(dir)
	own := errors.Is(err, os.ErrNotExist)
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the socket's directory: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	err = share(path, gid, mode)
	if err == nil && own && gid >= 0 {
		err = share(dir, gid, 0o750)
	}
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("setting the socket's permissions: %w", err)
	}
	return listener, nil
}

// share gives a socket or directory to the group, if there is one.
func share(path string, gid int, mode os.FileMode) error {
	if gid >= 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket: choose another path or remove it", path)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return fmt.Errorf("an agent serves %s already", path)
	}
	return os.Remove(path)
}

// Serve serves clients until ctx ends. Then runs end in good order, as if their
// clients had stopped them.
func (a *Agent) Serve(ctx context.Context, listener net.Listener) error {
	server := NewServer(a)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	a.opts.Log.Info("serving", "address", listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	a.stopRuns()
	hurry := time.AfterFunc(shutdownTimeout, server.Stop)
	defer hurry.Stop()
	server.GracefulStop()
	return <-served
}
