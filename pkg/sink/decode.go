// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"fmt"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

const (
	// unresolved stands for the name of a container of which nothing was known in time,
	// as it does in what clients print.
	unresolved = "<unresolved>"
	// maxPlaces bounds the containers that are remembered: several times those that a
	// tape explains once only.
	maxPlaces = 16 << 10
)

// place is where a record was made.
type place struct {
	print.Origin
	// container is nil for a node's host.
	container *wire.Container
}

// decoder knows what the records of a session mean, and whose they are.
type decoder struct {
	spec           *gadget.Spec
	schema         *event.Schema
	node           *wire.Node
	places         *simplelru.LRU[uint32, *place]
	host, stranger *place
}

func newDecoder(header *wire.Header) (*decoder, error) {
	spec, err := header.GetGadget().Spec()
	if err != nil {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	places, err := simplelru.NewLRU[uint32, *place](maxPlaces, nil)
	if err != nil {
		return nil, fmt.Errorf("remembering containers: %w", err)
	}
	node := header.GetNode()
	return &decoder{
		spec: spec, node: node, places: places,
		schema: event.NewSchema(spec.Source, event.Options{Arch: node.GetArch(), BootTime: time.Unix(0, header.GetBootTime())}),
		host:   &place{Origin: print.Origin{Node: node.GetName()}},
		stranger: &place{
			Origin:    print.Origin{Node: node.GetName(), Container: unresolved},
			container: &wire.Container{Kind: wire.Container_UNRESOLVED},
		},
	}, nil
}

// explain takes what references stand for.
func (d *decoder) explain(containers *wire.Containers) {
	for _, c := range containers.GetContainers() {
		p := &place{Origin: print.Origin{Node: d.node.GetName()}}
		if c.GetKind() != wire.Container_HOST {
			p.container = c
			p.Origin = print.Origin{
				Node: d.node.GetName(), Namespace: c.GetNamespace(), Pod: c.GetPod(), Container: c.GetName(), ContainerID: c.GetId(), Image: c.GetImage(),
			}
		}
		if c.GetKind() == wire.Container_UNRESOLVED {
			p.Container = unresolved
		}
		d.places.Add(c.GetRef(), p)
	}
}

// of is what a reference stands for.
func (d *decoder) of(ref uint32) *place {
	if p, ok := d.places.Get(ref); ok {
		return p
	}
	if ref == 0 {
		return d.host
	}
	return d.stranger
}

// each hands out the records of a batch, with where they were made and where the second
// process is that they are about, nil if they are about none.
func (d *decoder) each(batch *wire.Batch, take func(at, target *place, record []byte)) {
	i, targets := 0, batch.GetTargets()
	for ref, record := range batch.All() {
		var target *place
		if i < len(targets) {
			target = d.of(targets[i])
		}
		take(d.of(ref), target, record)
		i++
	}
}
