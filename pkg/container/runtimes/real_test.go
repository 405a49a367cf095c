// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/containerd/containerdtest"
	"nodegadget.dev/pkg/container/cri"
	"nodegadget.dev/pkg/container/runtimes/socket"
)

// TestPodOfRealContainerd is run through CRI as the kubelet does it, and looked up
// both ways, also after containerd was restarted.
func TestPodOfRealContainerd(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run/containerd")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	d := containerdtest.Start(t, containerdtest.Options{CRI: true, Dir: dir})
	digest := containerdtest.ImportImage(t, d.Client(t))
	conn, err := socket.Socket{Path: d.Socket}.Connect()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	sandbox, web := runPod(t, conn)

	want := container.Info{
		Sandbox: true, Runtime: "containerd", Image: containerdtest.PauseImage, ImageDigest: digest,
		Pod: container.Pod{Namespace: "shop", Name: "cart-1", UID: "uid-1", Labels: map[string]string{"app": "cart", "a/b": ""}},
	}
	r := newResolver(t, Options{Root: root})
	check := func() {
		t.Helper()
		got, err := r.Lookup(t.Context(), sandbox)
		require.NoError(t, err)
		require.Equal(t, want, got)
		// A resolver that hasn't been asked about the sandbox must find it by itself.
		for _, r := range []*Resolver{r, newResolver(t, Options{Root: root})} {
			inside := want
			inside.Sandbox, inside.Name = false, "web"
			got, err = r.Lookup(t.Context(), web)
			require.NoError(t, err)
			require.Equal(t, inside, got)
			require.Regexp(t, `^containerd v?[12]\.\S+ at /run/containerd/containerd.sock$`, r.Name())
		}
		// CRI tells the same, but for what it never tells: a sandbox's image, and the
		// digest of one that came from no registry.
		other := cri.New(cri.Options{Conn: conn, Socket: d.Socket})
		for _, id := range []string{web, sandbox} {
			native, err := r.Lookup(t.Context(), id)
			require.NoError(t, err)
			got, err := other.Lookup(t.Context(), id)
			require.NoError(t, err)
			native.ImageDigest = ""
			if id == sandbox {
				native.Image = ""
			}
			require.Equal(t, native, got)
		}
		_, err = other.Lookup(t.Context(), web[:12])
		require.ErrorIs(t, err, container.ErrNotFound)
	}
	check()
	d.Stop(t)
	_, err = r.Lookup(t.Context(), web)
	require.Error(t, err)
	require.NotErrorIs(t, err, container.ErrNotFound)
	d.Restart(t)
	awaitCRI(t, criapi.NewRuntimeServiceClient(conn))
	require.Eventually(t, func() bool { _, err := r.Lookup(t.Context(), web); return err == nil }, 10*time.Second, 10*time.Millisecond)
	check()
}

// awaitCRI waits for CRI, which is served a moment after containerd itself.
func awaitCRI(t *testing.T, client criapi.RuntimeServiceClient) {
	t.Helper()
	require.Eventually(t, func() bool {
		response, err := client.Status(t.Context(), &criapi.StatusRequest{})
		return err == nil && response.GetStatus().GetConditions()[0].GetStatus()
	}, 30*time.Second, 10*time.Millisecond)
}

// runPod runs a pod of a container and its sandbox until the test ends.
func runPod(t *testing.T, conn *grpc.ClientConn) (sandbox, web string) {
	t.Helper()
	client := criapi.NewRuntimeServiceClient(conn)
	awaitCRI(t, client)
	labels := map[string]string{"io.kubernetes.pod.name": "cart-1", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "uid-1"}
	config := &criapi.PodSandboxConfig{
		Metadata:     &criapi.PodSandboxMetadata{Name: "cart-1", Namespace: "shop", Uid: "uid-1"},
		Labels:       map[string]string{"app": "cart", "a/b": ""},
		LogDirectory: t.TempDir(),
		// No network of its own: there are no CNI plugins here.
		Linux: &criapi.LinuxPodSandboxConfig{
			CgroupParent:    "/nodegadget-test",
			SecurityContext: &criapi.LinuxSandboxSecurityContext{NamespaceOptions: &criapi.NamespaceOption{Network: criapi.NamespaceMode_NODE}},
		},
	}
	for key, value := range labels {
		config.Labels[key] = value
	}
	pod, err := client.RunPodSandbox(t.Context(), &criapi.RunPodSandboxRequest{Config: config})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		_, err := client.StopPodSandbox(ctx, &criapi.StopPodSandboxRequest{PodSandboxId: pod.GetPodSandboxId()})
		require.NoError(t, err)
		_, err = client.RemovePodSandbox(ctx, &criapi.RemovePodSandboxRequest{PodSandboxId: pod.GetPodSandboxId()})
		require.NoError(t, err)
		removeCgroups(t, "nodegadget-test")
	})
	labels["io.kubernetes.container.name"] = "web"
	made, err := client.CreateContainer(t.Context(), &criapi.CreateContainerRequest{
		PodSandboxId:  pod.GetPodSandboxId(),
		SandboxConfig: config,
		Config: &criapi.ContainerConfig{
			Metadata: &criapi.ContainerMetadata{Name: "web"},
			Image:    &criapi.ImageSpec{Image: containerdtest.PauseImage, UserSpecifiedImage: containerdtest.PauseImage},
			Labels:   labels,
			LogPath:  "web.log",
			Linux:    &criapi.LinuxContainerConfig{},
		},
	})
	require.NoError(t, err)
	_, err = client.StartContainer(t.Context(), &criapi.StartContainerRequest{ContainerId: made.GetContainerId()})
	require.NoError(t, err)
	return pod.GetPodSandboxId(), made.GetContainerId()
}

// removeCgroups removes an empty cgroup from all hierarchies.
func removeCgroups(t *testing.T, name string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		left, err := filepath.Glob(pattern + name)
		require.NoError(t, err)
		for _, dir := range left {
			require.NoError(t, os.Remove(dir))
		}
	}
}
