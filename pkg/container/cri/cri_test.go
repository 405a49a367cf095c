// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/runtimes/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const imageDigest = "sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79"

// id makes an id as long as runtimes'.
func id(name string) string { return name + strings.Repeat("0", 64-len(name)) }

// labels are the kubelet's for a pod, and others given as key, value, key, value.
func labels(uid string, others ...string) map[string]string {
	all := map[string]string{
		"io.kubernetes.pod.uid": uid, "io.kubernetes.pod.name": "cart-" + uid, "io.kubernetes.pod.namespace": "shop",
	}
	for i := 0; i < len(others); i += 2 {
		all[others[i]] = others[i+1]
	}
	return all
}

func newFake() *fake {
	web := func(name, uid string, image *runtime.ImageSpec, ref string) *runtime.ContainerStatus {
		return &runtime.ContainerStatus{
			Id: id(name), Metadata: &runtime.ContainerMetadata{Name: "web"}, Image: image, ImageRef: ref,
			Labels: labels(uid, "io.kubernetes.container.name", "web"),
		}
	}
	bare := web("cd", "", &runtime.ImageSpec{Image: "bare"}, "")
	bare.Labels = nil
	return &fake{
		containers: []*runtime.ContainerStatus{
			web("c1", "1", &runtime.ImageSpec{Image: "other:v1", UserSpecifiedImage: "cart:v1"}, "registry/cart@"+imageDigest),
			web("c2", "2", &runtime.ImageSpec{Image: "registry/cart:v2"}, imageDigest),
			web("c3", "3", &runtime.ImageSpec{Image: imageDigest}, strings.TrimPrefix(imageDigest, "sha256:")),
			web("c4", "3", &runtime.ImageSpec{Image: strings.TrimPrefix(imageDigest, "sha256:")}, ""),
			bare,
		},
		sandboxes: []*runtime.PodSandboxStatus{
			{Id: id("b1"), Labels: labels("1", "app", "cart")},
			{Id: id("b2"), Labels: labels("2", "app", "new"), CreatedAt: 2},
			{Id: id("b3"), Labels: labels("2", "app", "old"), CreatedAt: 1},
			{Id: id("b4")},
		},
	}
}

// ask makes a resolver that asks who listens at a path.
func ask(tb testing.TB, path string, timeout time.Duration) *Resolver {
	tb.Helper()
	conn, err := socket.Socket{Path: path}.Connect()
	require.NoError(tb, err)
	tb.Cleanup(func() { conn.Close() })
	return New(Options{Conn: conn, Socket: path, Timeout: timeout})
}

// TestLookup: what the runtime has is told, and what it doesn't know isn't guessed.
func TestLookup(t *testing.T) {
	pod := func(uid string, labels map[string]string) container.Pod {
		return container.Pod{Namespace: "shop", Name: "cart-" + uid, UID: uid, Labels: labels}
	}
	for _, test := range []struct {
		name, id string
		want     container.Info
	}{
		{"sandbox", "b1", container.Info{Sandbox: true, Pod: pod("1", map[string]string{"app": "cart"})}},
		{"sandbox that the kubelet didn't make", "b4", container.Info{Sandbox: true}},
		{"container", "c1", container.Info{Name: "web", Image: "cart:v1", ImageDigest: imageDigest, Pod: pod("1", map[string]string{"app": "cart"})}},
		{"container of a pod with two sandboxes", "c2", container.Info{Name: "web", Image: "registry/cart:v2", Pod: pod("2", map[string]string{"app": "new"})}},
		{"container of an image without a name", "c3", container.Info{Name: "web", Pod: pod("3", nil)}},
		{"container of an image by its hash", "c4", container.Info{Name: "web", Pod: pod("3", nil)}},
		{"container that the kubelet didn't make", "cd", container.Info{Name: "web", Image: "bare"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			newFake().serve(t, path)
			test.want.Runtime = "cri-o"
			got, err := ask(t, path, 0).Lookup(t.Context(), id(test.id))
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

// TestUnknownContainerIsNotFound, however the runtime says so, and though it takes
// the beginning of an id for an id.
func TestUnknownContainerIsNotFound(t *testing.T) {
	for _, notFound := range []error{nil, status.Error(codes.Unknown, "Error response from daemon: No such container: x")} {
		f := newFake()
		f.notFound = notFound
		path := filepath.Join(t.TempDir(), "s")
		f.serve(t, path)
		r := ask(t, path, 0)
		for _, unknown := range []string{id("ff"), "c1", "b1", ""} {
			info, err := r.Lookup(t.Context(), unknown)
			require.ErrorIs(t, err, container.ErrNotFound)
			require.Zero(t, info)
		}
	}
}

func TestErrorsAreTold(t *testing.T) {
	f := newFake()
	f.notFound = status.Error(codes.Unknown, "disk on fire")
	path := filepath.Join(t.TempDir(), "s")
	f.serve(t, path)
	_, err := ask(t, path, 0).Lookup(t.Context(), id("ff"))
	require.ErrorContains(t, err, "disk on fire")
	require.NotErrorIs(t, err, container.ErrNotFound)
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
		calls []string
	}{
		{"b1", []string{"Version", "ContainerStatus", "PodSandboxStatus"}},
		{"c1", []string{"ContainerStatus"}},
		{"c2", []string{"ContainerStatus", "ListPodSandbox"}},
		{"c2", []string{"ContainerStatus"}},
	} {
		_, err := r.Lookup(t.Context(), id(test.id))
		require.NoError(t, err)
		require.Equal(t, test.calls, f.taken(), "for %s", test.id)
	}
}

// TestServerThatComesAndGoes: no connection is needed in advance, and a new one is
// made by itself.
func TestServerThatComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := ask(t, path, 0)
	require.Equal(t, "CRI at "+path, r.Name())
	for range 2 {
		_, err := r.Lookup(t.Context(), id("b1"))
		require.Error(t, err)
		require.NotErrorIs(t, err, container.ErrNotFound)

		stop := newFake().serve(t, path)
		require.Eventually(t, func() bool {
			_, err := r.Lookup(t.Context(), id("b1"))
			return err == nil
		}, 5*time.Second, 10*time.Millisecond)
		require.Equal(t, "cri-o 1.36.1 at "+path, r.Name())
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
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.NotErrorIs(t, err, container.ErrNotFound)
	require.Error(t, r.Probe(t.Context()))
	require.Less(t, time.Since(begin), 5*time.Second)

	// Who asks may have less time.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Lookup(ctx, id("b1"))
	require.Error(t, err)
}
