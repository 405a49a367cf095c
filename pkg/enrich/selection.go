// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"slices"

	"nodegadget.dev/pkg/container"
)

// Selection says what a run may see. Restrictions add up; one that is empty doesn't
// restrict. The zero value selects all containers of this node.
type Selection struct {
	// Namespaces, Pods and Containers are names.
	Namespaces, Pods, Containers []string
	// Labels says whether a pod's labels are wanted; nil wants all.
	Labels func(labels map[string]string) bool
	// Host adds what is in no container, whatever the other restrictions say.
	Host bool
	// Machine selects all that the kernel sees, whatever else is said, also what
	// belongs to other nodes that share it.
	Machine bool
}

// All says whether no container is excluded, so that a record may be shown of which
// only this isn't known, in which container it was made.
func (s *Selection) All() bool {
	return s.Machine || len(s.Namespaces) == 0 && len(s.Pods) == 0 && len(s.Containers) == 0 && s.Labels == nil
}

// Match says whether a container is selected.
func (s *Selection) Match(c *container.Container) bool {
	return s.All() || among(s.Namespaces, c.Pod.Namespace) && among(s.Pods, c.Pod.Name) && among(s.Containers, c.Name) &&
		(s.Labels == nil || s.Labels(c.Pod.Labels))
}

func among(names []string, name string) bool { return len(names) == 0 || slices.Contains(names, name) }

// sightOf decides about a cgroup of which the registry has told.
func (s *Selection) sightOf(change container.Change) sight {
	show := false
	switch change.State {
	case container.Known:
		// What only its ids are known of may still turn out to be selected.
		if change.Container.Unresolved {
			return unresolved
		}
		show = s.Match(change.Container)
	case container.Host:
		show = s.Host || s.Machine
	case container.Foreign:
		show = s.Machine
	default:
		return undecided
	}
	if show {
		return shown
	}
	return hidden
}

// sight is what is decided about the records of a cgroup.
type sight uint8

const (
	// undecided records wait.
	undecided sight = iota
	// unresolved ones have waited long enough, and the registry still can't tell.
	unresolved
	shown
	hidden
)
