// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/wire"
)

// explanationsBytes is about how large a message of explanations becomes: a pod may
// have many labels.
const explanationsBytes = wire.MaxMessage / 8

// containerMessages explains containers, in messages that are not too large.
func containerMessages(containers []*container.Container) []*wire.Containers {
	var messages []*wire.Containers
	size := explanationsBytes
	for _, c := range containers {
		message := containerMessage(c)
		if size >= explanationsBytes {
			messages, size = append(messages, &wire.Containers{}), 0
		}
		size += proto.Size(message)
		last := messages[len(messages)-1]
		last.Containers = append(last.Containers, message)
	}
	return messages
}

func containerMessage(c *container.Container) *wire.Container {
	kind := wire.Container_CONTAINER
	if c.Unresolved {
		kind = wire.Container_UNRESOLVED
	}
	return &wire.Container{
		Ref: c.Ref, Kind: kind, Id: c.ID, Name: c.Name, Namespace: c.Pod.Namespace, Pod: c.Pod.Name, PodUid: c.Pod.UID,
		PodLabels: c.Pod.Labels, OwnerKind: c.Pod.OwnerKind, OwnerName: c.Pod.OwnerName,
		Image: c.Image, ImageDigest: c.ImageDigest, Runtime: c.Runtime, Stale: c.Stale,
	}
}

// explain explains a reference once more.
func (a *Agent) explain(ref uint32) *wire.Container {
	if ref == enrich.HiddenRef || ref == enrich.UnresolvedRef {
		return &wire.Container{Ref: ref, Kind: wire.Container_UNRESOLVED}
	}
	if a.opts.Containers == nil {
		return nil
	}
	c := a.opts.Containers.Container(ref)
	if c == nil {
		return nil
	}
	return containerMessage(c)
}
