// SPDX-License-Identifier: Apache-2.0

package container

import (
	"path"
	"regexp"
	"strings"
)

// identity is what the path of a container's cgroup says of it.
type identity struct {
	id string
	// podUID is "" outside of Kubernetes.
	podUID string
	// runtime is "" where the path doesn't give it away.
	runtime string
}

var (
	// hexID is how containerd's Kubernetes plugin, CRI-O, Docker, Podman and nerdctl
	// name containers.
	hexID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// podUID is a UUID, or the hash of a static pod's manifest.
	podUID = regexp.MustCompile(`^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})$`)
	// plainID is what containerd takes as an id (its pkg/identifiers).
	plainID = regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`)
)

// runtimes are those of the prefixes that they put before an id.
var runtimes = map[string]string{
	"cri-containerd": "containerd", "containerd": "containerd", "nerdctl": "containerd",
	"crio": "cri-o", "docker": "docker", "libpod": "podman",
}

// namespaces of containerd make a cgroup below the root if they are used without
// Kubernetes, and their containers may have any name.
var namespaces = map[string]bool{"default": true, "k8s.io": true, "moby": true, "buildkit": true}

// identify says which container's cgroup has this path, counted from the cgroup
// that holds the node. It returns false for cgroups above containers, those of
// daemons, and those in a container's own.
func identify(cgroup string) (identity, bool) {
	parts := strings.Split(strings.Trim(path.Clean("/"+cgroup), "/"), "/")
	if kube := kubernetes(parts); kube >= 0 {
		return inKubernetes(parts[kube:])
	}
	last := parts[len(parts)-1]
	if found, ok := component(last); ok {
		return found, true
	}
	if len(parts) == 2 && namespaces[parts[0]] && plainID.MatchString(last) {
		return identity{id: last, runtime: "containerd"}, true
	}
	return identity{}, false
}

// kubernetes is the index of the kubelet's own cgroup, -1 if there is none. A node
// that is a container itself has its kubelet's below that container's.
func kubernetes(parts []string) int {
	for i, part := range parts {
		if isKubepods(part) {
			return i
		}
	}
	return -1
}

// isKubepods recognises "kubepods", "kubepods.slice", with a cgroup root
// "kubelet-kubepods.slice", and "kubepods-burstable-pod<UID>.slice:cri-containerd:<ID>".
func isKubepods(part string) bool {
	name, _, _ := strings.Cut(part, ".")
	name, _, _ = strings.Cut(name, ":")
	return name == "kubepods" || strings.HasPrefix(name, "kubepods-") ||
		strings.HasSuffix(name, "-kubepods") || strings.Contains(name, "-kubepods-")
}

// inKubernetes looks for the pod, and for the container right below it.
func inKubernetes(parts []string) (identity, bool) {
	pod := ""
	for i, part := range parts {
		final := i == len(parts)-1
		if slice, rest, ok := strings.Cut(part, ":"); ok && final {
			found, ok := component(strings.ReplaceAll(rest, ":", "-"))
			found.podUID = podOf(slice)
			return found, ok
		}
		if pod != "" {
			found, ok := component(part)
			found.podUID = pod
			return found, ok && final
		}
		pod = podOf(part)
	}
	return identity{}, false
}

// podOf is the UID in "pod<UID>" and in "kubepods-burstable-pod<UID>.slice", where
// underscores stand for dashes, which separate slices.
func podOf(part string) string {
	uid, ok := strings.CutPrefix(part, "pod")
	if slice, isSlice := strings.CutSuffix(part, ".slice"); isSlice {
		at := strings.LastIndex(slice, "-pod")
		if at < 0 {
			return ""
		}
		uid, ok = strings.ReplaceAll(slice[at+len("-pod"):], "_", "-"), true
	}
	if !ok || !podUID.MatchString(uid) {
		return ""
	}
	return uid
}

// component reads the last part of a path: an id by itself, or "docker-<ID>.scope".
func component(part string) (identity, bool) {
	part = strings.TrimSuffix(part, ".scope")
	// Colons: "system.slice:docker:<ID>", where the runtime was told of a slice and
	// doesn't use slices.
	if at := strings.LastIndexByte(part, ':'); at >= 0 {
		_, prefix, _ := strings.Cut(part[:at], ":")
		part = prefix + "-" + part[at+1:]
	}
	prefix, id := "", part
	if at := strings.LastIndexByte(part, '-'); at >= 0 {
		prefix, id = part[:at], part[at+1:]
	}
	// conmon watches over a container from outside.
	if !hexID.MatchString(id) || strings.HasSuffix(prefix, "conmon") {
		return identity{}, false
	}
	return identity{id: id, runtime: runtimes[prefix]}, true
}

// nodeRoot is the cgroup that holds a node, from that of one of its pods: the one
// above the kubelet's. Without Kubernetes it is the root of all.
func nodeRoot(own string) string {
	parts := strings.Split(strings.Trim(own, "/"), "/")
	at := kubernetes(parts)
	if at < 0 {
		return "/"
	}
	// Nodes that are containers put the kubelet's below one of this name; a runtime
	// that was told of slices and doesn't use them, below its own service.
	if at > 0 && (parts[at-1] == "kubelet" || parts[at-1] == "kubelet.slice") {
		at--
	}
	if at > 1 && strings.HasSuffix(parts[at-1], ".service") && parts[at-2] == "system.slice" {
		at -= 2
	}
	return "/" + strings.Join(parts[:at], "/")
}

// isBelow says whether a cgroup is another one, or in it.
func isBelow(cgroup, root string) bool {
	return root == "/" || cgroup == root || strings.HasPrefix(cgroup, root+"/")
}
