// SPDX-License-Identifier: Apache-2.0

package container

import (
	"maps"
	"slices"
	"time"
)

// instance is a container, from its cgroup's making until it is forgotten.
type instance struct {
	identity
	// own is the container's own cgroup; cgroups has it and those below it.
	own     *cgroup
	cgroups []*cgroup
	since   time.Time
	// info is what the runtime told, once it is resolved.
	info     Info
	resolved bool
	// news are what the API server told of its pod, nil if nothing.
	news *Pod
	// known says that followers were told what current says.
	known   bool
	current *Container
	// stop ends the questions to the runtime, if there are any.
	stop func()
}

// newInstance begins to find out about a container.
func (r *Registry) newInstance(own *cgroup, who identity) *instance {
	r.lastRef++
	i := &instance{identity: who, own: own, cgroups: []*cgroup{own}, since: time.Now()}
	i.current = &Container{Ref: r.lastRef, CgroupID: own.id, ID: who.id, Runtime: who.runtime, Unresolved: true}
	i.current.Pod, i.current.Stale = r.pod(i), r.isStale(i)
	r.instances[i] = true
	if i.podUID != "" {
		r.byPod[i.podUID] = append(r.byPod[i.podUID], i)
	}
	if r.opts.Resolver == nil {
		i.known = true
		r.unresolved++
	} else {
		r.unasked = append(r.unasked, i)
	}
	return i
}

func (r *Registry) forgetInstance(i *instance) {
	delete(r.instances, i)
	for _, uid := range []string{i.podUID, i.info.Pod.UID} {
		r.byPod[uid] = slices.DeleteFunc(r.byPod[uid], func(other *instance) bool { return other == i })
		if len(r.byPod[uid]) == 0 {
			delete(r.byPod, uid)
		}
	}
	if i.stop != nil {
		i.stop()
	}
}

// tell takes in what is known of a container, and publishes it if it is new. As
// long as it isn't known, there is nothing to publish.
func (r *Registry) tell(i *instance, known bool) {
	next := *i.current
	next.Unresolved = !i.resolved
	if i.resolved {
		next.Name, next.Image, next.ImageDigest, next.Sandbox = i.info.Name, i.info.Image, i.info.ImageDigest, i.info.Sandbox
		if i.info.Runtime != "" {
			next.Runtime = i.info.Runtime
		}
	}
	next.Pod, next.Stale = r.pod(i), r.isStale(i)
	if known == i.known && sameContainer(&next, i.current) {
		return
	}
	i.current, i.known = &next, known
	if !known {
		return
	}
	for _, c := range i.cgroups {
		r.publish(c)
	}
}

func sameContainer(a, b *Container) bool {
	return a.Name == b.Name && a.Image == b.Image && a.ImageDigest == b.ImageDigest && a.Runtime == b.Runtime &&
		a.Sandbox == b.Sandbox && a.Unresolved == b.Unresolved && a.Stale == b.Stale &&
		a.Pod.Namespace == b.Pod.Namespace && a.Pod.Name == b.Pod.Name && a.Pod.UID == b.Pod.UID &&
		a.Pod.OwnerKind == b.Pod.OwnerKind && a.Pod.OwnerName == b.Pod.OwnerName && maps.Equal(a.Pod.Labels, b.Pod.Labels)
}
