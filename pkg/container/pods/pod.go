// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/container"
)

const (
	// annotationMirror is what the kubelet gives to the API's image of a static pod:
	// the UID by which the node knows the pod, a hash.
	annotationMirror = "kubernetes.io/config.mirror"
	// labelTemplateHash is what a Deployment gives to its ReplicaSets and their pods.
	labelTemplateHash = "pod-template-hash"
)

// fromMetadata is a pod as containers see it.
func fromMetadata(meta *metav1.PartialObjectMetadata) container.Pod {
	kind, name := owner(meta)
	return container.Pod{
		Namespace: meta.Namespace,
		Name:      meta.Name,
		UID:       uid(meta),
		Labels:    meta.Labels,
		OwnerKind: kind,
		OwnerName: name,
	}
}

// uid is the one that the node knows the pod by. An annotation that anybody may have
// written must not make the pod pass for another one, so only a hash is taken: UIDs
// that the API gives away look different.
func uid(meta *metav1.PartialObjectMetadata) string {
	if hash := meta.Annotations[annotationMirror]; len(hash) == 32 && strings.Trim(hash, "0123456789abcdef") == "" {
		return hash
	}
	return string(meta.UID)
}

// owner is the controller's kind and name. For a Deployment's pod that is a
// ReplicaSet; whose name ends in the hash of the pod's template has the Deployment's
// name before it.
func owner(meta *metav1.PartialObjectMetadata) (kind, name string) {
	controller := metav1.GetControllerOfNoCopy(meta)
	if controller == nil {
		return "", ""
	}
	hash := meta.Labels[labelTemplateHash]
	if controller.Kind == "ReplicaSet" && hash != "" {
		if deployment, ok := strings.CutSuffix(controller.Name, "-"+hash); ok && deployment != "" {
			return "Deployment", deployment
		}
	}
	return controller.Kind, controller.Name
}
