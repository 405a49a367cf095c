// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/runtimes/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	imageDigest = "sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79"
	otherDigest = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"
)

// made is when the containers of these tests were made.
var made = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// id makes an id as long as containerd's.
func id(name string) string { return name + strings.Repeat("0", 64-len(name)) }

// record is a container, whose labels are given as key, value, key, value.
func record(name, image string, labels ...string) *containersapi.Container {
	c := &containersapi.Container{ID: id(name), Image: image, CreatedAt: timestamppb.New(made), Labels: map[string]string{}}
	for i := 0; i < len(labels); i += 2 {
		c.Labels[labels[i]] = labels[i+1]
	}
	return c
}

// inPod makes a record one of a pod's.
func inPod(c *containersapi.Container, kind, uid string) *containersapi.Container {
	c.Labels["io.cri-containerd.kind"] = kind
	c.Labels["io.kubernetes.pod.uid"] = uid
	c.Labels["io.kubernetes.pod.name"] = "cart-" + uid
	c.Labels["io.kubernetes.pod.namespace"] = "shop"
	if kind == "container" {
		c.Labels["io.kubernetes.container.name"] = "web"
	}
	return c
}

// withSandbox is what containerd tells since 1.7.
func withSandbox(c *containersapi.Container, sandbox string) *containersapi.Container {
	c.Sandbox = id(sandbox)
	return c
}

// withMetadata is what CRI keeps.
func withMetadata(c *containersapi.Container, name, content string) *containersapi.Container {
	c.Extensions = map[string]*anypb.Any{name: {TypeUrl: "github.com/containerd/cri/pkg/store/Metadata", Value: []byte(content)}}
	return c
}

func image(name, digest string, updated time.Time) *imagesapi.Image {
	return &imagesapi.Image{Name: name, UpdatedAt: timestamppb.New(updated), Target: &types.Descriptor{Digest: digest}}
}

func newFake() *fake {
	later := record("b9", "pause", "app", "new")
	later.CreatedAt = timestamppb.New(made.Add(time.Hour))
	return &fake{
		containers: map[string][]*containersapi.Container{
			"k8s.io": {
				inPod(record("b1", "registry/pause:3", "app", "cart", "pod-template-hash", "7d9f8"), "sandbox", "1"),
				withSandbox(inPod(record("c1", "registry/cart:v1", "org.opencontainers.image.title", "x"), "container", "1"), "b1"),
				inPod(record("b2", "registry/pause:3", "app", "old"), "sandbox", "2"),
				inPod(later, "sandbox", "2"),
				inPod(record("c2", "registry/cart@"+imageDigest), "container", "2"),
				withSandbox(inPod(record("c3", "registry/newer:v1"), "container", "3"), "none"),
				withMetadata(inPod(record("b4", "registry/pause:3", "app", "x", "maintainer", "of the image"), "sandbox", "4"), extensionSandbox,
					`{"Version":"v1","Metadata":{"ID":"x","Config":{"labels":{"app":"y","empty":"","io.kubernetes.pod.uid":"4"}}}}`),
				withMetadata(inPod(record("c4", "registry/same:v1"), "container", "4"), extensionContainer, `{"Version":"v1","Metadata":{"SandboxID":"`+id("b4")+`",
					"ImageDigest":"`+otherDigest+`","Config":{"image":{"image":"sha256:1","user_specified_image":"cart:v4"}}}}`),
				withMetadata(inPod(record("c5", "registry/cart:v1"), "container", "1"), extensionContainer, `{"Version":"v1","Metadata":{"SandboxID":1}`),
				withMetadata(inPod(record("c6", "registry/cart:v1"), "container", "1"), extensionContainer, `{"Version":"v2","Metadata":{"ImageDigest":"x"}}`),
				record("ab", "registry/bare:v1", "io.kubernetes.pod.namespace", "shop"),
			},
			"default": {
				record("d1", "registry/gone:v1", "nerdctl/name", "db"),
				inPod(record("d2", "", "nerdctl/name", "liar"), "container", "1"),
			},
			"moby": {record("e1", "")},
		},
		images: map[string]*imagesapi.Image{
			"registry/pause:3":  image("registry/pause:3", otherDigest, made),
			"registry/cart:v1":  image("registry/cart:v1", imageDigest, made.Add(-time.Hour)),
			"registry/newer:v1": image("registry/newer:v1", otherDigest, made.Add(time.Hour)),
		},
	}
}

// ask makes a resolver that asks who listens at a path.
func ask(tb testing.TB, path string, timeout time.Duration) *Resolver {
	tb.Helper()
	conn, err := socket.Socket{Path: path}.Connect()
	require.NoError(tb, err)
	tb.Cleanup(func() { conn.Close() })
	r, err := New(Options{Conn: conn, Socket: path, Timeout: timeout})
	require.NoError(tb, err)
	return r
}

// TestLookup: what containerd has is told, and what it doesn't know isn't guessed.
func TestLookup(t *testing.T) {
	pod := func(uid string, labels map[string]string) container.Pod {
		return container.Pod{Namespace: "shop", Name: "cart-" + uid, UID: uid, Labels: labels}
	}
	cart := map[string]string{"app": "cart", "pod-template-hash": "7d9f8"}
	for _, test := range []struct {
		name, id string
		want     container.Info
	}{
		{"sandbox", "b1", container.Info{Sandbox: true, Image: "registry/pause:3", ImageDigest: otherDigest, Pod: pod("1", cart)}},
		{"container that tells its sandbox", "c1", container.Info{Name: "web", Image: "registry/cart:v1", ImageDigest: imageDigest, Pod: pod("1", cart)}},
		{"container of a pod with two sandboxes", "c2", container.Info{
			Name: "web", Image: "registry/cart@" + imageDigest, ImageDigest: imageDigest, Pod: pod("2", map[string]string{"app": "new"}),
		}},
		{"container without a sandbox, of an image that was replaced", "c3", container.Info{Name: "web", Image: "registry/newer:v1", Pod: pod("3", nil)}},
		{"sandbox with empty labels", "b4", container.Info{
			Sandbox: true, Image: "registry/pause:3", ImageDigest: otherDigest, Pod: pod("4", map[string]string{"app": "y", "empty": ""}),
		}},
		{"container of an image with two names", "c4", container.Info{
			Name: "web", Image: "cart:v4", ImageDigest: otherDigest, Pod: pod("4", map[string]string{"app": "y", "empty": ""}),
		}},
		{"container with broken metadata", "c5", container.Info{Name: "web", Image: "registry/cart:v1", ImageDigest: imageDigest, Pod: pod("1", cart)}},
		{"container with metadata to come", "c6", container.Info{Name: "web", Image: "registry/cart:v1", ImageDigest: imageDigest, Pod: pod("1", cart)}},
		{"container that the kubelet didn't make", "ab", container.Info{Image: "registry/bare:v1"}},
		{"container of nerdctl's, whose image is gone", "d1", container.Info{Name: "db", Image: "registry/gone:v1"}},
		{"container whose image says that it's in a pod", "d2", container.Info{Name: "liar"}},
		{"container of Docker's", "e1", container.Info{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			newFake().serve(t, path)
			test.want.Runtime = "containerd"
			got, err := ask(t, path, 0).Lookup(t.Context(), id(test.id))
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestUnknownContainerIsNotFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	newFake().serve(t, path)
	r := ask(t, path, 0)
	for _, unknown := range []string{id("ff"), "b1", "", `"x`} {
		info, err := r.Lookup(t.Context(), unknown)
		require.ErrorIs(t, err, container.ErrNotFound)
		require.Zero(t, info)
	}
}

// TestSandboxIsLookedForOnce: a pod's containers come after its sandbox, whose labels
// are known by then.
func TestSandboxIsLookedForOnce(t *testing.T) {
	f := newFake()
	path := filepath.Join(t.TempDir(), "s")
	f.serve(t, path)
	r := ask(t, path, 0)
	for _, test := range []struct {
		id    string
		calls map[string]int
	}{
		{"b1", map[string]int{"Containers/Get": 1, "Images/Get": 1}},
		{"c1", map[string]int{"Containers/Get": 1, "Images/Get": 1}},
		{"c4", map[string]int{"Containers/Get": 2}},
		{"c2", map[string]int{"Containers/Get": 1, "Containers/ListStream": 1}},
		{"c2", map[string]int{"Containers/Get": 1}},
		{"ff", map[string]int{"Containers/Get": 3, "Namespaces/List": 1}},
	} {
		_, _ = r.Lookup(t.Context(), id(test.id))
		require.Equal(t, test.calls, f.taken(), "for %s", test.id)
	}
}

// TestServerThatComesAndGoes: no connection is needed in advance, and a new one is
// made by itself.
func TestServerThatComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := ask(t, path, 0)
	require.Equal(t, "containerd at "+path, r.Name())
	for range 2 {
		_, err := r.Lookup(t.Context(), id("b1"))
		require.Error(t, err)
		require.NotErrorIs(t, err, container.ErrNotFound)

		stop := newFake().serve(t, path)
		require.Eventually(t, func() bool {
			_, err := r.Lookup(t.Context(), id("b1"))
			return err == nil
		}, 5*time.Second, 10*time.Millisecond)
		require.NoError(t, r.Probe(t.Context()))
		require.Equal(t, "containerd v9.8.7 at "+path, r.Name())
		stop()
	}
}

// TestServerThatHangsIsntWaitedFor longer than the timeout says.
func TestServerThatHangsIsntWaitedFor(t *testing.T) {
	f := newFake()
	f.hang = true
	path := filepath.Join(t.TempDir(), "s")
	f.serve(t, path)
	r := ask(t, path, 50*time.Millisecond)
	begin := time.Now()
	_, err := r.Lookup(t.Context(), id("b1"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Error(t, r.Probe(t.Context()))
	require.Less(t, time.Since(begin), 5*time.Second)
}

// TestWhoIsntContainerd is recognised by the error.
func TestWhoIsntContainerd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serveNothing(t, path)
	require.True(t, errdefs.IsNotImplemented(ask(t, path, 0).Probe(t.Context())))
}
