// SPDX-License-Identifier: Apache-2.0

// Package runtimes finds the container runtimes of a host, and asks all of them:
// Docker's containerd may run beside that of k3s.
package runtimes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/runtimes/socket"
)

const (
	defaultTimeout = time.Second
	// lookAgain is how often sockets are looked for while nobody can be asked.
	lookAgain = 200 * time.Millisecond
	// reconnectTimeout is for a connection to somebody who has begun to listen.
	reconnectTimeout = 200 * time.Millisecond
	// checkEvery is how often runtimes are asked who they are.
	checkEvery = 5 * time.Second
)

// Sockets are where Kubernetes' distributions have their runtimes'. The first are
// theirs alone; at the more usual places it may be somebody else's.
func Sockets() []string {
	return []string{
		"/run/k3s/containerd/containerd.sock", // k3s, RKE2
		"/run/k0s/containerd.sock",
		"/var/snap/microk8s/common/run/containerd.sock",
		"/run/crio/crio.sock",
		"/run/containerd/containerd.sock", // kubeadm, kind, Talos, Bottlerocket, clouds
		"/run/dockershim.sock",            // Bottlerocket's containerd, before Kubernetes 1.24
		"/run/cri-dockerd.sock",
	}
}

// Options of New. All may be left out.
type Options struct {
	// Root is where the host's file system is; "" is the own one.
	Root string
	// Sockets are the paths on the host at which runtimes may be; none are Sockets().
	// They may begin with "unix://", as the kubelet's do.
	Sockets []string
	// Timeout is how long one runtime may take to answer; 0 is a second.
	Timeout time.Duration
	// Log gets a line when a runtime is found or lost; nil is nothing.
	Log *slog.Logger
}

// Resolver is a container.Resolver that asks the runtimes that there are.
type Resolver struct {
	opts Options
	// looking is held while sockets are looked at; mu guards the rest, and is never
	// held while somebody is asked.
	looking sync.Mutex
	mu      sync.Mutex
	places  []*place
	looked  time.Time
}

// New makes a resolver. Nothing is looked for before Lookup or Run.
func New(opts Options) *Resolver {
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	paths := opts.Sockets
	if len(paths) == 0 {
		paths = Sockets()
	}
	r := &Resolver{opts: opts}
	for _, path := range paths {
		path = strings.TrimPrefix(path, "unix://")
		r.places = append(r.places, &place{
			socket:  socket.Socket{Root: opts.Root, Path: path},
			timeout: opts.Timeout,
			err:     errNotLooked,
		})
	}
	return r
}

// Close ends the connections. Nothing may be asked any more.
func (r *Resolver) Close() {
	r.looking.Lock()
	defer r.looking.Unlock()
	for _, p := range r.places {
		p.close()
	}
}

// Run keeps looking until ctx ends. It finds runtimes that come later than others,
// and keeps Name true: they are restarted, upgraded and removed at any time.
func (r *Resolver) Run(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		r.look(ctx, true)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Lookup is part of container.Resolver. If no runtime could be asked, it looks whether
// one has come. It doesn't if a container isn't known: that is asked for often, while
// the container is being made, and somebody else's hanging runtime must not delay it.
func (r *Resolver) Lookup(ctx context.Context, id string) (container.Info, error) {
	known := r.answering()
	info, err := r.ask(ctx, id, known)
	if err == nil || errors.Is(err, container.ErrNotFound) {
		return info, err
	}
	r.look(ctx, false)
	if now := r.answering(); !slices.Equal(now, known) {
		info, err = r.ask(ctx, id, now)
	}
	if errors.Is(err, errNobody) {
		err = errors.New(r.Name())
	}
	return info, err
}

// errNobody says that there was no runtime to ask.
var errNobody = errors.New("no container runtime")

// ask asks one after the other. That a container isn't found is only said if all
// could be asked.
func (r *Resolver) ask(ctx context.Context, id string, resolvers []container.Resolver) (container.Info, error) {
	if len(resolvers) == 0 {
		return container.Info{}, errNobody
	}
	var failed error
	for _, resolver := range resolvers {
		info, err := resolver.Lookup(ctx, id)
		switch {
		case err == nil:
			r.answered(resolver)
			return info, nil
		case !errors.Is(err, container.ErrNotFound):
			failed = fmt.Errorf("%s: %w", resolver.Name(), err)
		}
	}
	if failed != nil {
		return container.Info{}, failed
	}
	return container.Info{}, container.ErrNotFound
}

// answered notes that a runtime answers, which it may not have done before.
func (r *Resolver) answered(resolver container.Resolver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.places {
		if p.runtime == resolver {
			p.err = nil
		}
	}
}

// answering are the runtimes that were found.
func (r *Resolver) answering() []container.Resolver {
	r.mu.Lock()
	defer r.mu.Unlock()
	var resolvers []container.Resolver
	for _, p := range r.places {
		if p.runtime != nil {
			resolvers = append(resolvers, p.runtime)
		}
	}
	return resolvers
}

// Name names the runtimes, or says why there is none, on one line.
func (r *Resolver) Name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found, broken, missing []string
	for _, p := range r.places {
		switch {
		case p.runtime != nil && p.err != nil:
			found = append(found, fmt.Sprintf("%s (doesn't answer: %v)", p.runtime.Name(), p.err))
		case p.runtime != nil:
			found = append(found, p.runtime.Name())
		case isMissing(p.err):
			missing = append(missing, p.socket.Path)
		default:
			broken = append(broken, p.err.Error())
		}
	}
	switch {
	case len(found) > 0:
		return strings.Join(found, ", ")
	case len(broken) > 0:
		return "no container runtime: " + strings.Join(broken, "; ")
	}
	return "no container runtime at " + strings.Join(missing, ", ")
}
