// SPDX-License-Identifier: Apache-2.0

package print

import (
	"strings"

	"nodegadget.dev/pkg/gadget"
)

// Origin says on which node and in which container a record was made, or in which a
// process is that the record is about. What is unknown is empty.
type Origin struct{ Node, Namespace, Pod, Container, ContainerID, Image string }

// originNames are the names under which an Origin is shown, in its order.
var originNames = [...]string{"node", "namespace", "pod", "container", "containerID", "image"}

func (o *Origin) texts() [len(originNames)]string {
	return [...]string{o.Node, o.Namespace, o.Pod, o.Container, o.ContainerID, o.Image}
}

// targetOrigins is where the texts of the target's origin begin, behind those of the
// record's own.
const targetOrigins = len(originNames)

// originIndex finds the text of that name: of the record's origin, or of that of its
// target.
func originIndex(source *gadget.Source, name string) (int, bool) {
	from := 0
	if outer := target(source); outer != "" {
		if inner, ok := strings.CutPrefix(name, outer+"."); ok {
			name, from = inner, targetOrigins
		}
	}
	for i, known := range originNames {
		if name == known {
			return from + i, true
		}
	}
	return 0, false
}

// target is the name of the struct in a record that tells of a second process, which
// its cgroup shows; empty if there is none.
func target(source *gadget.Source) string {
	for i := range source.Fields {
		if outer, _, nested := strings.Cut(source.Fields[i].Name, "."); nested && source.Fields[i].Semantic == gadget.Cgroup {
			return outer
		}
	}
	return ""
}

// targetNames are the names under which the target's origin is shown. Its node is the
// record's.
func targetNames(source *gadget.Source) []string {
	outer := target(source)
	if outer == "" {
		return nil
	}
	names := make([]string, 0, len(originNames)-1)
	for _, name := range originNames[1:] {
		names = append(names, outer+"."+name)
	}
	return names
}

// OriginNames are the names under which origins can be asked for as fields.
func OriginNames(source *gadget.Source) []string {
	return append(originNames[:len(originNames):len(originNames)], targetNames(source)...)
}

// originCache keeps the texts of the last origins as bytes: successive records mostly
// share theirs, and then comparing is all there is to do.
type originCache struct {
	last  [2]Origin
	bytes [2 * len(originNames)][]byte
}

// update makes the origins the last ones, and says whether the record's own was
// another before.
func (c *originCache) update(origin, target *Origin) bool {
	c.set(1, target)
	return c.set(0, origin)
}

func (c *originCache) set(which int, origin *Origin) bool {
	if origin == nil {
		origin = &Origin{}
	}
	last := &c.last[which]
	if *origin == *last {
		return false
	}
	*last = *origin
	for i, text := range origin.texts() {
		at := which*targetOrigins + i
		c.bytes[at] = append(c.bytes[at][:0], text...)
	}
	return true
}
