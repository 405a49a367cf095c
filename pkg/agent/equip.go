// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"nodegadget.dev/pkg/agent/heartbeat"
	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/pods"
	"nodegadget.dev/pkg/container/runtimes"
	"nodegadget.dev/pkg/session"
	sessionwatch "nodegadget.dev/pkg/session/watch"
)

// task is something that goes on while the agent serves.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// equip opens what the setup asks for beside gadgets. The agent does without what
// can't be had, and says so.
func (a *Agent) equip(ctx context.Context) {
	if a.setup.Containers {
		if a.blind = a.openContainers(ctx); a.blind != nil {
			a.opts.Log.Error("containers can't be followed: only the whole machine can be traced", "error", brief(a.blind))
		}
	}
	if a.setup.FollowSessions {
		a.tasks = append(a.tasks, task{"trace sessions", a.followSessions})
	}
	if a.setup.Heartbeat {
		if a.opts.Heartbeat, a.beatless = heartbeat.Open(); a.beatless != nil {
			a.opts.Log.Error("it can't be watched whether events flow", "error", a.beatless)
			return
		}
		a.tasks = append(a.tasks, task{"heartbeat", a.opts.Heartbeat.Run})
	}
}

// openContainers opens the registry, and gives it somebody to ask.
func (a *Agent) openContainers(ctx context.Context) error {
	types, err := a.opts.Chooser.Types(ctx, container.Object(Arch()))
	if err != nil {
		return err
	}
	resolver := runtimes.New(runtimes.Options{Root: a.setup.HostRoot, Sockets: a.setup.RuntimeSockets, Log: a.opts.Log})
	a.done = append(a.done, resolver.Close)
	registry, err := container.Open(container.Options{
		Cgroups: filepath.Join(cmp.Or(a.setup.HostRoot, "/"), "sys/fs/cgroup"), Root: a.setup.CgroupRoot,
		Types: types.Spec, Resolver: resolver, Log: a.opts.Log,
	})
	if err != nil {
		return err
	}
	a.opts.Containers = registry
	a.tasks = append(a.tasks, task{"containers", registry.Run}, task{"container runtime", func(ctx context.Context) error {
		resolver.Run(ctx)
		return nil
	}})
	return a.followPods()
}

// followPods lets the API server tell the registry of this node's pods.
func (a *Agent) followPods() error {
	if !a.setup.FollowPods {
		return nil
	}
	registry := a.opts.Containers
	informer, err := pods.New(pods.Options{
		Config: a.setup.Kubernetes, Node: a.opts.Node, Log: a.opts.Log,
		Set: registry.SetPods, Drop: registry.DropPods,
		Stale: func(stale bool) {
			a.stale.Store(stale)
			registry.SetStale(stale)
		},
	})
	if err != nil {
		return fmt.Errorf("following pods: %w", err)
	}
	a.tasks = append(a.tasks, task{"pods", func(ctx context.Context) error {
		informer.Run(ctx)
		return nil
	}})
	return nil
}

// followSessions records what the API server wants, until ctx ends.
func (a *Agent) followSessions(ctx context.Context) error {
	err := sessionwatch.Run(ctx, sessionwatch.Options{
		Config: a.setup.Kubernetes, Node: a.opts.Node, Log: a.opts.Log,
		Set: func(wanted []session.Session) { a.sessions.set(ctx, wanted) },
	})
	a.sessions.close()
	return err
}
