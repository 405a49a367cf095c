// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/tracer"
)

// TestEveryExecHasItsContainer, on v2 and where controllers are mounted the v1 way,
// in containers that live only as long as their process.
func TestEveryExecHasItsContainer(t *testing.T) {
	needRoot(t)
	chooser, err := kernel.Open(kernel.Options{Bundle: os.Getenv(bundleEnv)})
	require.NoError(t, err)
	defer chooser.Close()
	for _, test := range []struct {
		name, controller string
		cgroups          tracer.Cgroups
		hierarchy        container.Hierarchy
	}{
		{"v2", "", tracer.CgroupV2, container.V2},
		{"v1 pids", "pids", tracer.CgroupV1Pids, container.V1Pids},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := hierarchy(t, test.controller)
			node, _ := newCgroup(t, tree, "node")
			types, err := chooser.Types(t.Context(), container.Object(agent.Arch()))
			require.NoError(t, err)
			mounted := tree
			if test.controller != "" {
				mounted = filepath.Dir(tree)
			}
			registry, err := container.Open(container.Options{Cgroups: mounted, Root: "/" + filepath.Base(node), Types: types.Spec})
			require.NoError(t, err)
			t.Cleanup(registry.Close)
			require.Equal(t, test.hierarchy, registry.Hierarchy())
			follow(t, registry)
			containers := registry.Subscribe()
			defer containers.Close()

			object, err := catalog(t).Object("trace_exec")
			require.NoError(t, err)
			types, err = chooser.Types(t.Context(), tailor.Object{Name: object.Spec.Name, Content: object.Content})
			require.NoError(t, err)
			opts := tracer.Options{Cgroups: test.cgroups, KernelTypes: types.Spec, Params: map[string]string{"comm": "true"}}
			want := make(map[uint64]string)
			records := recordsOf(t, "trace_exec", opts, func() {
				for i := range 30 {
					name := fmt.Sprintf("%064x", i)
					id := shortLived(t, filepath.Join(node, name))
					want[id] = name
				}
			})
			got := make(map[uint64]string)
			known := known(t, containers, len(want))
			for _, id := range values(t, "trace_exec", "cgroup_id", records) {
				if want[id] != "" {
					got[id] = known[id]
				}
			}
			require.Equal(t, want, got)
		})
	}
}

// shortLived runs a program in a cgroup of its own, and says its id.
func shortLived(t *testing.T, dir string) uint64 {
	t.Helper()
	require.NoError(t, os.Mkdir(dir, 0o755))
	id := cgroupID(t, dir)
	runInCgroup(t, dir, "/bin/true")
	require.Eventually(t, func() bool { return os.Remove(dir) == nil }, 5*time.Second, time.Millisecond)
	return id
}

// follow runs a registry until the test ends.
func follow(t *testing.T, registry *container.Registry) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- registry.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// known are ids of containers by their cgroups', when there are as many as wanted.
func known(t *testing.T, containers *container.Subscription, count int) map[uint64]string {
	t.Helper()
	all := make(map[uint64]string)
	require.Eventually(t, func() bool {
		for _, change := range containers.Take(nil) {
			if change.State == container.Known {
				all[change.CgroupID] = change.Container.ID
			}
		}
		return len(all) >= count
	}, 10*time.Second, time.Millisecond)
	return all
}
