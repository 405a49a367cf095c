// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// unresolved stands for the name of a container of which nothing was known in time.
// No container can have that name.
const unresolved = "<unresolved>"

// origins says what references to containers stand for.
type origins struct {
	explained map[uint32]*print.Origin
	// hosts and strangers are, by node, the origins of references that nobody has
	// explained: 0 is the node itself, for agents and old relays.
	hosts, strangers map[string]*print.Origin
}

// reset forgets all: references are those of one session.
func (o *origins) reset() {
	*o = origins{explained: map[uint32]*print.Origin{}, hosts: map[string]*print.Origin{}, strangers: map[string]*print.Origin{}}
}

// explain takes explanations. A relay's name the node of each container; an agent's
// are about its own.
func (o *origins) explain(containers *wire.Containers, n *nodeView, run *client.Run) {
	for _, c := range containers.GetContainers() {
		origin := &print.Origin{
			Namespace: c.GetNamespace(), Pod: c.GetPod(), Container: c.GetName(), ContainerID: c.GetId(), Image: c.GetImage(),
		}
		if node := run.Node(c.GetNode()); node != nil {
			origin.Node = node.Name
		} else if n != nil {
			origin.Node = n.Name
		}
		switch c.GetKind() {
		case wire.Container_HOST:
			origin = &print.Origin{Node: origin.Node}
		case wire.Container_UNRESOLVED:
			origin.Container = unresolved
		}
		o.explained[c.GetRef()] = origin
	}
}

// of is the origin that a reference in a node's batch stands for.
func (o *origins) of(ref uint32, node string) *print.Origin {
	if origin, ok := o.explained[ref]; ok {
		return origin
	}
	if ref == 0 {
		return remembered(o.hosts, node, print.Origin{Node: node})
	}
	return remembered(o.strangers, node, print.Origin{Node: node, Container: unresolved})
}

func remembered(origins map[string]*print.Origin, node string, made print.Origin) *print.Origin {
	if origins[node] == nil {
		origins[node] = &made
	}
	return origins[node]
}
