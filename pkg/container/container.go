// SPDX-License-Identifier: Apache-2.0

package container

// Container is what is known of a container. A value is never changed once it is
// published: news of a container make another value with the same Ref.
type Container struct {
	// Ref names the container in records. It is unique in the life of the registry
	// and counts from 1; 0 stands for no container.
	Ref uint32
	// CgroupID is that of the container's own cgroup; see Hierarchy.
	CgroupID uint64
	// ID is the runtime's, usually 64 hexadecimal digits.
	ID string
	// Name is the one in the pod's spec; without Kubernetes the runtime's, or empty.
	Name string
	// Image is the name that the image was asked for by, ImageDigest "sha256:...".
	Image, ImageDigest string
	// Runtime is "containerd" or "cri-o".
	Runtime string
	// Sandbox says that it only holds a pod's namespaces.
	Sandbox bool
	// Pod is the zero value for a container that isn't part of a pod.
	Pod Pod
	// Unresolved says that the runtime told nothing of the container in time: no
	// more is known than what its cgroup's path says, the ids.
	Unresolved bool
	// Stale says that Pod's labels and owner may be out of date.
	Stale bool
}

// Pod is what is known of a pod.
type Pod struct {
	Namespace, Name, UID string
	Labels               map[string]string
	// OwnerKind and OwnerName are the controller's: "ReplicaSet" or, where its name
	// can be told from the ReplicaSet's, "Deployment".
	OwnerKind, OwnerName string
}

// State is what is known of a cgroup.
type State uint8

// The states of a cgroup.
const (
	// Pending is in a container of which the runtime hasn't told anything yet.
	Pending State = iota + 1
	// Known is in a container.
	Known
	// Host is in no container.
	Host
	// Foreign is not this node's: outside of the cgroup that all of it is in. A node
	// that shares its kernel with others has such neighbours.
	Foreign
)

// Change says what has come to be known of a cgroup.
type Change struct {
	CgroupID uint64
	State    State
	// Container is set if State is Known.
	Container *Container
	// Gone says that the cgroup was removed so long ago that it may be forgotten.
	Gone bool
}
