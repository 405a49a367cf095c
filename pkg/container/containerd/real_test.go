// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"fmt"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/anypb"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/containerd/containerdtest"
	"nodegadget.dev/pkg/container/runtimes/kubelet"
)

// spec is as large as usual ones. Nobody looks into it.
var spec = &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: make([]byte, 8<<10)}

// fill puts a node's worth of pods into containerd's metadata: nothing is run. The
// result are the ids of the containers, of which each pod has one besides its sandbox.
func fill(tb testing.TB, c *client.Client, pods int) []string {
	tb.Helper()
	ctx := namespaces.WithNamespace(tb.Context(), "k8s.io")
	_, err := c.ImageService().Create(ctx, images.Image{
		Name:   "registry/cart:v1",
		Target: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(imageDigest), Size: 1},
	})
	require.NoError(tb, err)
	var ids []string
	for pod := range pods {
		for prefix, kind := range map[string]string{"b": "sandbox", "c": "container"} {
			r := inPod(record(fmt.Sprintf("%s%03x", prefix, pod), "registry/cart:v1", "app", fmt.Sprint("app-", pod)), kind, fmt.Sprint(pod))
			_, err := c.ContainerService().Create(ctx, containers.Container{
				ID: r.GetID(), Labels: r.GetLabels(), Image: r.GetImage(), Spec: spec,
				Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2"},
			})
			require.NoError(tb, err)
			if kind == "container" {
				ids = append(ids, r.GetID())
			}
		}
	}
	return ids
}

// TestRealContainerd: what a real one has is found, also after it was restarted, and
// in a namespace that is made later.
func TestRealContainerd(t *testing.T) {
	d := containerdtest.Start(t, containerdtest.Options{})
	r := ask(t, d.Socket, 0)
	ids := fill(t, d.Client(t), 2)
	want := container.Info{
		Name: "web", Image: "registry/cart:v1", ImageDigest: imageDigest, Runtime: "containerd",
		Pod: container.Pod{Namespace: "shop", Name: "cart-1", UID: "1", Labels: map[string]string{"app": "app-1"}},
	}
	check := func() {
		t.Helper()
		got, err := r.Lookup(t.Context(), ids[1])
		require.NoError(t, err)
		require.Equal(t, want, got)
		_, err = r.Lookup(t.Context(), id("ff"))
		require.ErrorIs(t, err, container.ErrNotFound)
	}
	check()
	require.NoError(t, r.Probe(t.Context()))
	require.Regexp(t, `^containerd v?[12]\.\S+ at /`, r.Name())

	d.Stop(t)
	_, err := r.Lookup(t.Context(), ids[0])
	require.Error(t, err)
	require.NotErrorIs(t, err, container.ErrNotFound)
	d.Restart(t)
	require.Eventually(t, func() bool { _, err := r.Lookup(t.Context(), ids[0]); return err == nil }, 10*time.Second, 10*time.Millisecond)
	check()

	ctx := namespaces.WithNamespace(t.Context(), "later")
	c := d.Client(t)
	require.NoError(t, c.NamespaceService().Create(ctx, "later", nil))
	_, err = c.ContainerService().Create(ctx, containers.Container{ID: "db", Spec: spec, Runtime: containers.RuntimeInfo{Name: "runc"}})
	require.NoError(t, err)
	got, err := r.Lookup(t.Context(), "db")
	require.NoError(t, err)
	require.Equal(t, container.Info{Runtime: "containerd"}, got)
}

// TestImageThatWasReplaced has its digest told only for containers made since.
func TestImageThatWasReplaced(t *testing.T) {
	d := containerdtest.Start(t, containerdtest.Options{})
	c := d.Client(t)
	id := fill(t, c, 1)[0]
	ctx := namespaces.WithNamespace(t.Context(), "k8s.io")
	_, err := c.ImageService().Update(ctx, images.Image{
		Name:   "registry/cart:v1",
		Target: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(otherDigest), Size: 1},
	})
	require.NoError(t, err)
	got, err := ask(t, d.Socket, 0).Lookup(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "registry/cart:v1", got.Image)
	require.Empty(t, got.ImageDigest)
}

// BenchmarkLookup is for a node of 250 pods: of a container whose pod is known, of
// one whose sandbox must be searched for, as CRI didn't make it, and of one that containerd doesn't know.
func BenchmarkLookup(b *testing.B) {
	d := containerdtest.Start(b, containerdtest.Options{})
	ids := fill(b, d.Client(b), 250)
	b.Run("known pod", func(b *testing.B) {
		r := ask(b, d.Socket, 0)
		for i := 0; b.Loop(); i++ {
			_, err := r.Lookup(b.Context(), ids[0])
			require.NoError(b, err)
		}
	})
	b.Run("new pod", func(b *testing.B) {
		r := ask(b, d.Socket, 0)
		for i := 0; b.Loop(); i++ {
			r.sandboxes = kubelet.NewSandboxes()
			_, err := r.Lookup(b.Context(), ids[i%len(ids)])
			require.NoError(b, err)
		}
	})
	b.Run("unknown", func(b *testing.B) {
		r := ask(b, d.Socket, 0)
		for b.Loop() {
			_, err := r.Lookup(b.Context(), id("ff"))
			require.ErrorIs(b, err, container.ErrNotFound)
		}
	})
}
