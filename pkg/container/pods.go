// SPDX-License-Identifier: Apache-2.0

package container

// SetPods tells of pods, which may be known before their containers or after. It
// replaces labels and owners, and names where the runtime told none. A pod's UID is
// the one in its cgroup's path, which is a static pod's config hash.
func (r *Registry) SetPods(pods ...Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, pod := range pods {
		r.pods[pod.UID] = pod
		for _, i := range r.byPod[pod.UID] {
			r.tell(i, i.known)
		}
	}
}

// DropPods tells of pods that are no more. Their containers keep what they had.
func (r *Registry) DropPods(uids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, uid := range uids {
		delete(r.pods, uid)
	}
}

// SetStale says whether news of pods may be missing, and marks all pods' containers.
func (r *Registry) SetStale(stale bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = stale
	for i := range r.instances {
		r.tell(i, i.known)
	}
}

// pod is what is known of a container's pod: who the runtime says it is, and what
// the API server said last, also if it has dropped the pod since.
func (r *Registry) pod(i *instance) Pod {
	pod := i.info.Pod
	if pod.UID == "" {
		pod.UID = i.podUID
	}
	if news, ok := r.pods[pod.UID]; ok && pod.UID != "" {
		i.news = &news
	}
	if i.news == nil {
		return pod
	}
	pod.Labels, pod.OwnerKind, pod.OwnerName = i.news.Labels, i.news.OwnerKind, i.news.OwnerName
	if pod.Name == "" {
		pod.Namespace, pod.Name = i.news.Namespace, i.news.Name
	}
	return pod
}

// isStale says whether labels and owner of a container's pod may be out of date.
func (r *Registry) isStale(i *instance) bool {
	return r.stale && (i.podUID != "" || i.info.Pod.UID != "")
}
