// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// unresolved stands for the name of a container of which nothing was known in time.
// No container can have that name.
const unresolved = "<unresolved>"

// origin is where a record was made, and the node that says how to read it.
type origin struct {
	print.Origin
	node *nodeView
}

// origins says what references to containers stand for.
type origins struct {
	explained map[uint32]*origin
	// hosts and strangers are the origins of references that nobody has explained: 0
	// is the node itself, for agents that know no containers.
	hosts, strangers map[*nodeView]*origin
}

// reset forgets all: references are those of one session.
func (o *origins) reset() {
	*o = origins{explained: map[uint32]*origin{}, hosts: map[*nodeView]*origin{}, strangers: map[*nodeView]*origin{}}
}

// explain takes what a reference stands for.
func (o *origins) explain(c *wire.Container, n *nodeView) {
	made := &origin{node: n, Origin: print.Origin{Node: n.Name}}
	if c.GetKind() != wire.Container_HOST {
		made.Origin = print.Origin{
			Node: n.Name, Namespace: c.GetNamespace(), Pod: c.GetPod(), Container: c.GetName(), ContainerID: c.GetId(), Image: c.GetImage(),
		}
	}
	if c.GetKind() == wire.Container_UNRESOLVED {
		made.Container = unresolved
	}
	o.explained[c.GetRef()] = made
}

// of is the origin that a reference stands for, in a batch of the node or, if that is
// nil, of many. It is nil if nobody knows even the node.
func (o *origins) of(ref uint32, n *nodeView) *origin {
	if known, ok := o.explained[ref]; ok {
		return known
	}
	switch {
	case n == nil:
		return nil
	case ref == 0:
		return remembered(o.hosts, n, "")
	}
	return remembered(o.strangers, n, unresolved)
}

func remembered(origins map[*nodeView]*origin, n *nodeView, container string) *origin {
	if origins[n] == nil {
		origins[n] = &origin{node: n, Origin: print.Origin{Node: n.Name, Container: container}}
	}
	return origins[n]
}
