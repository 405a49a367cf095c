// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"encoding/json"

	"github.com/containerd/containerd/v2/core/containers"
)

// What containerd's CRI service, which made the container, keeps of the kubelet's
// request in the container's record.
const (
	extensionSandbox   = "io.cri-containerd.sandbox.metadata"
	extensionContainer = "io.cri-containerd.container.metadata"
	// metadataVersion is the only one that there has been since 2018.
	metadataVersion = "v1"
)

// metadata has the few fields that the record itself lacks or has changed: it doesn't
// keep labels that are empty, mixes in the image's, and tells some name of the image.
type metadata struct {
	// SandboxID is set for containers.
	SandboxID string
	// ImageDigest is set by containerd since 2.4.
	ImageDigest string
	Config      struct {
		Labels map[string]string `json:"labels"`
		Image  struct {
			UserSpecifiedImage string `json:"user_specified_image"`
		} `json:"image"`
	}
}

// readMetadata is of a pod's container. It is containerd's own business how it is
// kept; if it can't be read, the zero value is returned, and the record has to do.
func readMetadata(record containers.Container) metadata {
	name := extensionContainer
	if isSandbox(record) {
		name = extensionSandbox
	}
	extension := record.Extensions[name]
	if extension == nil {
		return metadata{}
	}
	var content struct {
		Version  string
		Metadata metadata
	}
	if err := json.Unmarshal(extension.GetValue(), &content); err != nil || content.Version != metadataVersion {
		return metadata{}
	}
	return content.Metadata
}

func isSandbox(record containers.Container) bool { return record.Labels[labelKind] == kindSandbox }
