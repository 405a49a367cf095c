// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
)

// ErrNotFound says that the runtime doesn't know a container, or doesn't yet: a
// container's cgroup may be there before the runtime tells of it.
var ErrNotFound = errors.New("container not found")

// Resolver asks a container runtime. Its methods may be called concurrently.
type Resolver interface {
	// Lookup tells of the container with an id. The error is ErrNotFound if the
	// runtime doesn't know it; any other says that the runtime couldn't be asked.
	// Either way it is asked again for a while, so Lookup must not try for long
	// itself, and must connect anew to a runtime that was restarted.
	Lookup(ctx context.Context, id string) (Info, error)
	// Name says who is asked: "containerd v2.4.2 at /run/containerd/containerd.sock".
	Name() string
}

// Info is what a runtime tells of a container. For the meaning of fields see Container.
type Info struct {
	Name, Image, ImageDigest, Runtime string
	Sandbox                           bool
	Pod                               Pod
}
