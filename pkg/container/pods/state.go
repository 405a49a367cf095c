// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/container"
)

// state is what is known of the pods, and whether that is all. It is the store that
// a cache.Reflector fills. Pods' statuses change far more often than what matters
// here, so it passes on only what differs.
type state struct {
	opts Options

	// mu also makes Options' functions be called one at a time: lists fail in
	// another goroutine than the one in which news come.
	mu    sync.Mutex
	known map[string]container.Pod
	// told says whether Options.Stale was called, and stale with what.
	told, stale bool
}

// failed is told when the API server can't be asked.
func (s *state) failed(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return // That was the end of Run.
	}
	s.tell(true, "error", err)
}

// fresh is told when nothing is missed any more.
func (s *state) fresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell(false)
}

// tell passes on changes only. The caller holds mu.
func (s *state) tell(stale bool, args ...any) {
	if s.told && s.stale == stale {
		return
	}
	s.told, s.stale = true, stale
	s.opts.Stale(stale)
	if stale {
		s.opts.Log.Warn("pods: the API server can't be asked, what is known of them is kept", append(args, "pods", len(s.known))...)
	} else {
		s.opts.Log.Info("pods: in step with the API server", "pods", len(s.known))
	}
}

// Add is part of cache.ReflectorStore.
func (s *state) Add(object any) error { return s.Update(object) }

// Update is part of cache.ReflectorStore.
func (s *state) Update(object any) error {
	pod, err := fromObject(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.learn(pod) {
		s.opts.Set(pod)
	}
	return nil
}

// Delete is part of cache.ReflectorStore.
func (s *state) Delete(object any) error {
	pod, err := fromObject(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.known[pod.UID]; ok && samePod(known, pod) {
		delete(s.known, pod.UID)
		s.opts.Drop(pod.UID)
	}
	return nil
}

// Replace is part of cache.ReflectorStore: these are all pods that there are.
func (s *state) Replace(objects []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := make(map[string]bool, len(objects))
	pods := make([]container.Pod, 0, len(objects))
	for _, object := range objects {
		pod, err := fromObject(object)
		if err != nil {
			return err
		}
		there[pod.UID] = true
		pods = append(pods, pod)
	}
	var gone []string
	for uid := range s.known {
		if !there[uid] {
			delete(s.known, uid)
			gone = append(gone, uid)
		}
	}
	if len(gone) > 0 {
		s.opts.Drop(gone...)
	}
	var news []container.Pod
	for _, pod := range pods {
		if s.learn(pod) {
			news = append(news, pod)
		}
	}
	if len(news) > 0 {
		s.opts.Set(news...)
	}
	s.tell(false)
	return nil
}

// Resync is part of cache.ReflectorStore, and means nothing here.
func (s *state) Resync() error { return nil }

// learn says whether there is anything new about a pod. Another pod that claims a
// known UID is not believed: an API object may say it mirrors any static pod.
func (s *state) learn(pod container.Pod) bool {
	known, ok := s.known[pod.UID]
	if ok && (!samePod(known, pod) || reflect.DeepEqual(known, pod)) {
		return false
	}
	s.known[pod.UID] = pod
	return true
}

func samePod(a, b container.Pod) bool { return a.Namespace == b.Namespace && a.Name == b.Name }

// fromObject takes out of an object what is kept of it.
func fromObject(object any) (container.Pod, error) {
	meta, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return container.Pod{}, fmt.Errorf("the API server sent a %T instead of a pod's metadata", object)
	}
	return fromMetadata(meta), nil
}
