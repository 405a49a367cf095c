// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
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
	// Runs need what goes on beside them until they have ended.
	beside, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	group, grouped := errgroup.WithContext(beside)
	for _, t := range a.tasks {
		group.Go(func() error {
			if err := t.run(grouped); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			return nil
		})
	}
	if err := a.serveMonitor(group, grouped); err != nil {
		stopBeside()
		return errors.Join(err, group.Wait(), listener.Close())
	}
	err := a.serveClients(ctx, grouped, listener)
	stopBeside()
	return errors.Join(err, group.Wait())
}

// serveClients serves until ctx ends, or what runs beside fails.
func (a *Agent) serveClients(ctx, beside context.Context, listener net.Listener) error {
	guarded, opts := a.guard(listener)
	server := NewServer(a, opts...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(guarded) }()
	a.opts.Log.Info("serving", "address", listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	case <-beside.Done():
	}
	a.stopRuns()
	hurry := time.AfterFunc(shutdownTimeout, server.Stop)
	defer hurry.Stop()
	server.GracefulStop()
	// It may not even have begun.
	if err := <-served; !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// serveMonitor serves metrics and health, if that is wanted.
func (a *Agent) serveMonitor(group *errgroup.Group, ctx context.Context) error {
	if a.setup.HTTP == "" {
		return nil
	}
	listener, err := net.Listen("tcp", a.setup.HTTP)
	if err != nil {
		return fmt.Errorf("listening for metrics and probes: %w", err)
	}
	server := &http.Server{
		Handler: a.Monitor(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving metrics and probes: %w", err)
		}
		return nil
	})
	return nil
}
