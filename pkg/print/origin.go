// SPDX-License-Identifier: Apache-2.0

package print

// Origin says on which node and in which container a record was made. What is
// unknown is empty.
type Origin struct{ Node, Namespace, Pod, Container, ContainerID, Image string }

// originNames are the names under which an Origin is shown, in its order.
var originNames = [...]string{"node", "namespace", "pod", "container", "containerID", "image"}

func (o *Origin) texts() [len(originNames)]string {
	return [...]string{o.Node, o.Namespace, o.Pod, o.Container, o.ContainerID, o.Image}
}

// OriginNames are the names under which an Origin can be asked for as fields.
func OriginNames() []string { return originNames[:] }

func originIndex(name string) (int, bool) {
	for i, known := range originNames {
		if name == known {
			return i, true
		}
	}
	return 0, false
}

// originCache keeps the texts of the last origin as bytes: successive records
// mostly share theirs, and then comparing is all there is to do.
type originCache struct {
	last  Origin
	bytes [len(originNames)][]byte
}

// update makes origin the last one, and says whether it was another before.
func (c *originCache) update(origin *Origin) bool {
	if origin == nil {
		origin = &Origin{}
	}
	if *origin == c.last {
		return false
	}
	c.last = *origin
	for i, text := range origin.texts() {
		c.bytes[i] = append(c.bytes[i][:0], text...)
	}
	return true
}
