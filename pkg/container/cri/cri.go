// SPDX-License-Identifier: Apache-2.0

// Package cri asks any container runtime about containers that the kubelet can use:
// CRI-O for example, which has no other interface.
package cri

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/runtimes/kubelet"
)

const defaultTimeout = time.Second

// Options say whom to ask.
type Options struct {
	// Conn is connected to the runtime, or will be. It isn't closed here. Required.
	Conn *grpc.ClientConn
	// Socket is the name of Conn's other end.
	Socket string
	// Timeout is how long one Lookup or Probe may take; 0 is a second.
	Timeout time.Duration
}

// Resolver is a container.Resolver.
type Resolver struct {
	opts      Options
	client    runtime.RuntimeServiceClient
	sandboxes *kubelet.Sandboxes
	version   atomic.Pointer[runtime.VersionResponse]
}

// New makes a resolver. It asks nothing yet.
func New(opts Options) *Resolver {
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	return &Resolver{opts: opts, client: runtime.NewRuntimeServiceClient(opts.Conn), sandboxes: kubelet.NewSandboxes()}
}

// Probe learns the runtime's name and version.
func (r *Resolver) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	return r.probe(ctx)
}

func (r *Resolver) probe(ctx context.Context) error {
	version, err := r.client.Version(ctx, &runtime.VersionRequest{})
	if err != nil {
		return fmt.Errorf("asking the runtime for its version: %w", err)
	}
	r.version.Store(version)
	return nil
}

// Name says who is asked; the runtime's name is known after Probe.
func (r *Resolver) Name() string {
	if version := r.version.Load(); version != nil {
		return fmt.Sprintf("%s %s at %s", version.GetRuntimeName(), version.GetRuntimeVersion(), r.opts.Socket)
	}
	return "CRI at " + r.opts.Socket
}

// Lookup is part of container.Resolver.
func (r *Resolver) Lookup(ctx context.Context, id string) (container.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	if r.version.Load() == nil {
		if err := r.probe(ctx); err != nil {
			return container.Info{}, err
		}
	}
	info, err := r.container(ctx, id)
	if isNotFound(err) {
		info, err = r.sandbox(ctx, id)
	}
	if isNotFound(err) {
		return container.Info{}, container.ErrNotFound
	}
	info.Runtime = r.version.Load().GetRuntimeName()
	return info, err
}

// container looks among the containers that aren't sandboxes.
func (r *Resolver) container(ctx context.Context, id string) (container.Info, error) {
	response, err := r.client.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return container.Info{}, fmt.Errorf("asking for container %q: %w", id, err)
	}
	found := response.GetStatus()
	if found.GetId() != id {
		// Runtimes take the beginning of an id for an id.
		return container.Info{}, errOther
	}
	info := container.Info{
		Name:  found.GetMetadata().GetName(),
		Image: imageName(found.GetImage()),
		Pod:   kubelet.Pod(found.GetLabels()),
	}
	if _, digest, ok := strings.Cut(found.GetImageRef(), "@"); ok {
		info.ImageDigest = digest
	}
	if info.Pod.UID != "" {
		info.Pod.Labels, err = r.podLabels(ctx, info.Pod.UID)
	}
	return info, err
}

// sandbox looks among the sandboxes.
func (r *Resolver) sandbox(ctx context.Context, id string) (container.Info, error) {
	response, err := r.client.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return container.Info{}, fmt.Errorf("asking for sandbox %q: %w", id, err)
	}
	found := response.GetStatus()
	if found.GetId() != id {
		return container.Info{}, errOther
	}
	pod := kubelet.Pod(found.GetLabels())
	if pod.UID != "" {
		pod.Labels = r.sandboxes.Add(pod.UID, found.GetLabels())
	}
	return container.Info{Sandbox: true, Pod: pod}, nil
}

// podLabels are those of a pod, which only its sandbox has. A container's status
// doesn't tell its sandbox's id, so the latest with the pod's UID is taken.
func (r *Resolver) podLabels(ctx context.Context, uid string) (map[string]string, error) {
	if labels, ok := r.sandboxes.Get(uid); ok {
		return labels, nil
	}
	response, err := r.client.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{
		Filter: &runtime.PodSandboxFilter{LabelSelector: map[string]string{kubelet.LabelPodUID: uid}},
	})
	if err != nil {
		return nil, fmt.Errorf("asking for the sandbox of pod %q: %w", uid, err)
	}
	var latest *runtime.PodSandbox
	for _, sandbox := range response.GetItems() {
		if latest == nil || sandbox.GetCreatedAt() > latest.GetCreatedAt() {
			latest = sandbox
		}
	}
	if latest == nil {
		return nil, nil
	}
	return r.sandboxes.Add(uid, latest.GetLabels()), nil
}

// imageName is the name that the image was asked for by. Runtimes that don't keep it
// tell another name of the same image, or only its digest, which is no name.
func imageName(image *runtime.ImageSpec) string {
	name := image.GetUserSpecifiedImage()
	if name == "" {
		name = image.GetImage()
	}
	if strings.HasPrefix(name, "sha256:") || isHash(name) {
		return ""
	}
	return name
}

// isHash says that a name is what CRI-O calls an image by that has no name.
func isHash(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

// errOther stands for another container having been told of than was asked for.
var errOther = status.Error(codes.NotFound, "the runtime told of another one")

// isNotFound is for wrapped errors too. cri-dockerd has no code for what it doesn't
// know, but says so.
func isNotFound(err error) bool {
	switch status.Code(err) {
	case codes.NotFound:
		return true
	case codes.Unknown:
		return strings.Contains(err.Error(), "No such container")
	}
	return false
}
