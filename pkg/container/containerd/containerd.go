// SPDX-License-Identifier: Apache-2.0

// Package containerd asks containerd about containers, through its own client.
//
// Its metadata has a container before the container's cgroup is made, while its CRI
// service tells of some only later; and it has containers that aren't Kubernetes' too.
//
// Besides what gRPC costs anyway, the client costs 3 MB of resident memory, 1 MB of
// them not shared with the file; the bare API (containerd/api) would cost 0.2 MB. That
// is affordable, and the client knows what the bare API leaves to its callers: errors,
// namespaces, and streams instead of messages that grow with the number of containers.
package containerd

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/runtimes/kubelet"
)

const (
	// runtimeName is what containers say they run on.
	runtimeName = "containerd"
	// kubernetes is the namespace of all that the kubelet makes.
	kubernetes = "k8s.io"
	// labelKind says whether a pod's container is its sandbox.
	labelKind   = "io.cri-containerd.kind"
	kindSandbox = "sandbox"
	// labelNerdctlName is the name that a container has for the users of nerdctl.
	labelNerdctlName = "nerdctl/name"

	defaultTimeout = time.Second
)

// Options say whom to ask.
type Options struct {
	// Conn is connected to containerd, or will be. It isn't closed here. Required.
	Conn *grpc.ClientConn
	// Socket is the name of Conn's other end.
	Socket string
	// Timeout is how long one Lookup or Probe may take; 0 is a second.
	Timeout time.Duration
}

// Resolver is a container.Resolver.
type Resolver struct {
	opts      Options
	client    *client.Client
	sandboxes *kubelet.Sandboxes
	version   atomic.Pointer[string]
}

// New makes a resolver. It asks nothing yet.
func New(opts Options) (*Resolver, error) {
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	c, err := client.NewWithConn(opts.Conn)
	if err != nil {
		return nil, fmt.Errorf("making a client of containerd: %w", err)
	}
	return &Resolver{opts: opts, client: c, sandboxes: kubelet.NewSandboxes()}, nil
}

// Probe learns containerd's version, for Name. An error for which
// errdefs.IsNotImplemented holds says that who answered isn't containerd.
func (r *Resolver) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	version, err := r.client.Version(ctx)
	if err != nil {
		// This one call of the client's returns gRPC's error as it is.
		return fmt.Errorf("asking containerd for its version: %w", errgrpc.ToNative(err))
	}
	r.version.Store(&version.Version)
	return nil
}

// Name says who is asked; the version is known after Probe.
func (r *Resolver) Name() string {
	if version := r.version.Load(); version != nil {
		return fmt.Sprintf("containerd %s at %s", *version, r.opts.Socket)
	}
	return "containerd at " + r.opts.Socket
}

// Lookup is part of container.Resolver.
func (r *Resolver) Lookup(ctx context.Context, id string) (container.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	namespace, record, err := r.find(ctx, id)
	if err != nil {
		return container.Info{}, err
	}
	ctx = namespaces.WithNamespace(ctx, namespace)
	info := container.Info{Name: record.Labels[labelNerdctlName], Image: record.Image, Runtime: runtimeName}
	// An image's labels become its containers' labels. Only CRI overrides those
	// that say which pod a container is part of, so elsewhere they may be made up.
	if namespace == kubernetes && record.Labels[labelKind] != "" {
		if err := r.addPod(ctx, &info, record); err != nil {
			return container.Info{}, err
		}
	}
	if info.ImageDigest == "" {
		info.ImageDigest, err = r.imageDigest(ctx, record)
	}
	return info, err
}

// addPod adds what there is to know of a pod's container.
func (r *Resolver) addPod(ctx context.Context, info *container.Info, record containers.Container) error {
	metadata := readMetadata(record)
	info.Sandbox = isSandbox(record)
	info.Name = kubelet.ContainerName(record.Labels)
	info.ImageDigest = metadata.ImageDigest
	if name := metadata.Config.Image.UserSpecifiedImage; name != "" {
		info.Image = name
	}
	info.Pod = kubelet.Pod(record.Labels)
	if info.Sandbox {
		info.Pod.Labels = r.remember(record)
		return nil
	}
	sandbox := record.SandboxID
	if sandbox == "" {
		sandbox = metadata.SandboxID
	}
	var err error
	info.Pod.Labels, err = r.podLabels(ctx, sandbox, info.Pod.UID)
	return err
}

// find looks at Kubernetes' namespace first, and then at the others that there are
// at this moment: a container may be the first of its namespace.
func (r *Resolver) find(ctx context.Context, id string) (string, containers.Container, error) {
	record, err := r.get(ctx, kubernetes, id)
	if !errdefs.IsNotFound(err) {
		return kubernetes, record, err
	}
	others, err := r.client.NamespaceService().List(ctx)
	if err != nil {
		return "", record, fmt.Errorf("listing containerd's namespaces: %w", err)
	}
	for _, namespace := range others {
		if namespace == kubernetes {
			continue
		}
		record, err := r.get(ctx, namespace, id)
		if !errdefs.IsNotFound(err) {
			return namespace, record, err
		}
	}
	return "", record, container.ErrNotFound
}

func (r *Resolver) get(ctx context.Context, namespace, id string) (containers.Container, error) {
	record, err := r.client.ContainerService().Get(namespaces.WithNamespace(ctx, namespace), id)
	if err != nil {
		return record, fmt.Errorf("asking containerd for container %q: %w", id, err)
	}
	return record, nil
}

// podLabels are those of a pod, which only its sandbox has.
func (r *Resolver) podLabels(ctx context.Context, sandbox, uid string) (map[string]string, error) {
	if labels, ok := r.sandboxes.Get(uid); ok {
		return labels, nil
	}
	record, err := r.sandbox(ctx, sandbox, uid)
	if err != nil || record.ID == "" {
		return nil, err
	}
	return r.remember(record), nil
}

// remember keeps a sandbox's labels for the containers of its pod.
func (r *Resolver) remember(sandbox containers.Container) map[string]string {
	labels := readMetadata(sandbox).Config.Labels
	if labels == nil {
		labels = sandbox.Labels
	}
	return r.sandboxes.Add(kubelet.Pod(sandbox.Labels).UID, labels)
}

// sandbox finds a pod's sandbox by its id, or if that isn't known as the latest with
// the pod's UID, which takes long. The zero value stands for none.
func (r *Resolver) sandbox(ctx context.Context, id, uid string) (containers.Container, error) {
	if id != "" {
		sandbox, err := r.get(ctx, kubernetes, id)
		if !errdefs.IsNotFound(err) {
			return sandbox, err
		}
	}
	filter := fmt.Sprintf("labels.%q==%s,labels.%q==%q", labelKind, kindSandbox, kubelet.LabelPodUID, uid)
	sandboxes, err := r.client.ContainerService().List(ctx, filter)
	if err != nil {
		return containers.Container{}, fmt.Errorf("asking containerd for the sandbox of pod %q: %w", uid, err)
	}
	var latest containers.Container
	for _, sandbox := range sandboxes {
		if latest.ID == "" || sandbox.CreatedAt.After(latest.CreatedAt) {
			latest = sandbox
		}
	}
	return latest, nil
}

// imageDigest is the digest of the record's image, or "" if that is gone, or if its
// name got another meaning after the container was made: then nothing here says
// which image the container was made of.
func (r *Resolver) imageDigest(ctx context.Context, record containers.Container) (string, error) {
	if _, digest, ok := strings.Cut(record.Image, "@"); ok {
		return digest, nil
	}
	if record.Image == "" {
		return "", nil
	}
	image, err := r.client.ImageService().Get(ctx, record.Image)
	switch {
	case errdefs.IsNotFound(err), err == nil && image.UpdatedAt.After(record.CreatedAt):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("asking containerd for image %q: %w", record.Image, err)
	}
	return image.Target.Digest.String(), nil
}
