// SPDX-License-Identifier: Apache-2.0

// Package kubelet reads the labels that the kubelet gives to pods' sandboxes and
// containers, whichever runtime it gives them to.
package kubelet

import (
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"nodegadget.dev/pkg/container"
)

// The kubelet's labels. A sandbox has the pod's own labels as well.
const (
	// LabelPodUID is of a pod's sandbox and of all its containers.
	LabelPodUID = "io.kubernetes.pod.uid"

	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelContainerName = "io.kubernetes.container.name"
	// prefixContainerd is that of containerd's own labels.
	prefixContainerd = "io.cri-containerd."
)

// maxSandboxes is about twice the pods that a node has.
const maxSandboxes = 512

// Pod is the pod that a sandbox or a container says it is part of, without the pod's
// labels; the zero value if the kubelet didn't make it.
func Pod(labels map[string]string) container.Pod {
	return container.Pod{Namespace: labels[labelPodNamespace], Name: labels[labelPodName], UID: labels[LabelPodUID]}
}

// ContainerName is the name that a container has in its pod.
func ContainerName(labels map[string]string) string { return labels[labelContainerName] }

// podLabels are the pod's own among a sandbox's labels.
func podLabels(sandbox map[string]string) map[string]string {
	labels := make(map[string]string, len(sandbox))
	for key, value := range sandbox {
		switch {
		case key == LabelPodUID, key == labelPodName, key == labelPodNamespace:
		case strings.HasPrefix(key, prefixContainerd):
		default:
			labels[key] = value
		}
	}
	return labels
}

// Sandboxes remembers the labels of pods by their UIDs, so that only one of a pod's
// containers has to look for them. It may be used concurrently.
type Sandboxes struct {
	labels *lru.Cache[string, map[string]string]
}

// NewSandboxes makes an empty one.
func NewSandboxes() *Sandboxes {
	labels, err := lru.New[string, map[string]string](maxSandboxes)
	if err != nil {
		panic(err) // only a size of zero or less is an error
	}
	return &Sandboxes{labels: labels}
}

// Add remembers the labels of a pod's sandbox. The pod's own are the result, which
// must not be changed. A later sandbox of the same pod replaces an earlier one.
func (s *Sandboxes) Add(uid string, sandbox map[string]string) map[string]string {
	labels := podLabels(sandbox)
	s.labels.Add(uid, labels)
	return labels
}

// Get finds the labels of a pod. They must not be changed.
func (s *Sandboxes) Get(uid string) (map[string]string, bool) { return s.labels.Get(uid) }
